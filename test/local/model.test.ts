import { cpSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { describeModel } from "../../local/model.ts";
import { temporaryFolder, tinyConfig, writeTinyCheckpoint } from "../engine/tiny-checkpoint.ts";
import { type TinyGgufOptions, writeTinyGguf } from "../engine/tiny-gguf.ts";

const bundled = join(import.meta.dirname, "..", "..", "models", "axon-guide");

function tinyGguf(options?: TinyGgufOptions & { seed?: number }): string {
  const { config, weights } = writeTinyCheckpoint({ seed: options?.seed ?? 1 });
  return writeTinyGguf(config, weights, options);
}

test("a folder in the layout of Hugging Face", () => {
  expect(describeModel(bundled)).toMatchObject({
    model: "axon-guide",
    revision: expect.stringMatching(/^axon-guide-[0-9a-f]{12}$/),
    contextTokens: 1024,
  });
});

describe("a GGUF file", () => {
  test("has its context, and defaults for what it does not say", () => {
    const model = describeModel(tinyGguf());
    expect(model).toMatchObject({
      model: "model",
      revision: expect.stringMatching(/^model-[0-9a-f]{12}$/),
      contextTokens: tinyConfig.max_position_embeddings,
      sampling: { maxTokens: tinyConfig.max_position_embeddings, temperature: 0.7, topP: 0.95 },
    });
  });

  test("may say how to sample", () => {
    const values = {
      "general.sampling.temp": { f32: 0.6 },
      "general.sampling.top_p": { f32: 0.9 },
      "general.sampling.top_k": 20,
    };
    const { sampling } = describeModel(tinyGguf({ values }));
    expect(sampling).toMatchObject({ temperature: 0.6, topP: 0.9, topK: 20 });
  });

  test("in a folder is called like the folder, and is the same revision but for the name", () => {
    const path = tinyGguf();
    const [byFile, byFolder] = [describeModel(path), describeModel(dirname(path))];
    expect(byFolder.model).toBe(dirname(path).split("/").at(-1));
    expect(byFolder.revision.slice(-12)).toBe(byFile.revision.slice(-12));
  });

  test("with other weights is another revision", () => {
    const revision = describeModel(tinyGguf()).revision;
    expect(describeModel(tinyGguf()).revision).toBe(revision);
    expect(describeModel(tinyGguf({ seed: 2 })).revision).not.toBe(revision);
  });
});

describe("what is no model is refused, saying why", () => {
  const cases: [string, () => string, RegExp][] = [
    ["nothing", () => join(temporaryFolder(), "nowhere"), /nowhere is no model/],
    ["an empty folder", temporaryFolder, /no .safetensors file, and no .gguf file/],
    [
      "another architecture",
      () => tinyGguf({ values: { "general.architecture": "bloom" } }),
      /architecture is "bloom"; supported is "llama"/,
    ],
    [
      "a damaged file",
      () => {
        const path = join(temporaryFolder(), "model.gguf");
        writeFileSync(path, "GGUF");
        return path;
      },
      /its header claims/,
    ],
    [
      "two files",
      () => {
        const path = tinyGguf();
        cpSync(path, join(dirname(path), "other.gguf"));
        expect(readdirSync(dirname(path))).toHaveLength(2);
        return dirname(path);
      },
      /Name one of them/,
    ],
  ];
  test.each(cases)("%s", (_, make, message) => {
    expect(() => describeModel(make())).toThrow(
      expect.objectContaining({
        code: "model_missing",
        message: expect.stringMatching(message),
      }),
    );
  });
});
