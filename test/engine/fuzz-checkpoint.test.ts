import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { expect, onTestFinished, test } from "vitest";
import { Checkpoint } from "../../dataplane/engine/checkpoint/checkpoint.ts";
import { modelTensors } from "../../dataplane/engine/checkpoint/model-tensors.ts";
import { EngineError } from "../../dataplane/engine/engine-error.ts";
import { byteMutation, jsonMutation, mutateJson } from "../support/mutations.ts";
import { temporaryFolder, withHeader, writeTinyCheckpoint } from "./tiny-checkpoint.ts";
import { writeTinyGguf } from "./tiny-gguf.ts";

/**
 * Whatever is done to a checkpoint, opening and reading it either works or throws an EngineError that
 * puts it on the checkpoint, and takes no memory that the file does not deserve.
 */

const smallest = {
  vocab_size: 7,
  hidden_size: 8,
  intermediate_size: 6,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 4,
  tie_word_embeddings: false,
  eos_token_id: [2],
};

const largestGrowthBytes = 256 * 2 ** 20;
const runs = { numRuns: 500, interruptAfterTimeLimit: 3_000 };

/** Opens and reads everything, as a rank does. Returns how it ended. */
async function outcomeOf(path: string): Promise<string> {
  try {
    const checkpoint = await Checkpoint.open(path);
    try {
      for (const [name, [rows = 1, columns]] of modelTensors(checkpoint.config)) {
        if (columns === undefined) await checkpoint.vector(name, rows);
        else {
          const slice = { rows: [0, rows], columns: [0, columns] } as const;
          await checkpoint.matrix(name, [rows, columns], slice);
        }
      }
    } finally {
      await checkpoint.close();
    }
    return "read";
  } catch (error) {
    expect(error).toBeInstanceOf(EngineError);
    const { code, message } = error as EngineError;
    expect(["invalid_checkpoint", "unsupported_model"]).toContain(code);
    expect(message.length).toBeLessThan(4_000);
    return code;
  }
}

/** Fails where a property grew the process by more than small files can explain. */
function watchMemory(): void {
  const before = process.memoryUsage().rss;
  onTestFinished(() => {
    expect(process.memoryUsage().rss - before).toBeLessThan(largestGrowthBytes);
  });
}

/** A check that the mutations do reach both ends: files that still read, and files that do not. */
function expectBothEnds(outcomes: ReadonlySet<string>): void {
  expect([...outcomes].sort()).toEqual(expect.arrayContaining(["invalid_checkpoint", "read"]));
}

test("safetensors: damaged bytes", async () => {
  watchMemory();
  const { folder } = writeTinyCheckpoint({ config: smallest });
  const path = join(folder, "model.safetensors");
  const sound = readFileSync(path);
  const reach = 8 + Number(sound.readBigUInt64LE()) + 16;
  const outcomes = new Set<string>();
  const mutations = fc.array(byteMutation(reach), { minLength: 1, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(mutations, async (steps) => {
      writeFileSync(
        path,
        steps.reduce<Buffer>((bytes, mutate) => mutate(bytes), sound),
      );
      outcomes.add(await outcomeOf(folder));
    }),
    runs,
  );
  expectBothEnds(outcomes);
});

test("safetensors: a header with odd values", async () => {
  watchMemory();
  const { folder } = writeTinyCheckpoint({ config: smallest });
  const path = join(folder, "model.safetensors");
  const sound = readFileSync(path);
  const end = 8 + Number(sound.readBigUInt64LE());
  const header: object = JSON.parse(sound.toString("utf8", 8, end));
  const outcomes = new Set<string>();
  await fc.assert(
    fc.asyncProperty(jsonMutation, async (mutation) => {
      writeFileSync(path, withHeader(mutateJson(header, mutation), sound.subarray(end)));
      outcomes.add(await outcomeOf(folder));
    }),
    runs,
  );
  expectBothEnds(outcomes);
});

test("config.json, generation_config.json and the index with odd values", async () => {
  watchMemory();
  const { folder: sound, config } = writeTinyCheckpoint({ config: smallest, files: 2 });
  const folder = temporaryFolder();
  cpSync(sound, folder, { recursive: true });
  const texts = {
    "config.json": { ...config, rope_scaling: { rope_type: "default" } },
    "generation_config.json": { eos_token_id: [2, 3] },
    "model.safetensors.index.json": read(join(sound, "model.safetensors.index.json")),
  };
  const outcomes = new Set<string>();
  const names = fc.constantFrom(...(Object.keys(texts) as (keyof typeof texts)[]));
  await fc.assert(
    fc.asyncProperty(names, jsonMutation, async (damaged, mutation) => {
      for (const [name, value] of Object.entries(texts)) {
        const text = name === damaged ? mutateJson(value, mutation) : JSON.stringify(value);
        writeFileSync(join(folder, name), text);
      }
      outcomes.add(await outcomeOf(folder));
    }),
    runs,
  );
  expectBothEnds(outcomes);
});

test("GGUF: damaged bytes", async () => {
  watchMemory();
  const { config, weights } = writeTinyCheckpoint({ config: smallest });
  const values = { "tokenizer.ggml.tokens": ["a", "b", "c", "d", "e", "f", "g"] };
  const path = writeTinyGguf(config, weights, { values });
  const sound = readFileSync(path);
  const dataBytes = [...weights.values()].reduce((sum, { values: all }) => sum + all.length * 4, 0);
  const outcomes = new Set<string>();
  const reach = sound.length - dataBytes;
  const mutations = fc.array(byteMutation(reach), { minLength: 1, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(mutations, async (steps) => {
      writeFileSync(
        path,
        steps.reduce<Buffer>((bytes, mutate) => mutate(bytes), sound),
      );
      outcomes.add(await outcomeOf(path));
    }),
    runs,
  );
  expectBothEnds(outcomes);
  expect(outcomes).toContain("unsupported_model");
});

function read(path: string): object {
  return JSON.parse(readFileSync(path, "utf8"));
}
