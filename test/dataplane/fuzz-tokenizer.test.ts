import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EngineError } from "../../dataplane/engine/engine-error.ts";
import { loadTokenizer } from "../../dataplane/tokenizer.ts";
import { TokenizerError } from "../../dataplane/tokenizer-error.ts";
import { temporaryFolder } from "../engine/tiny-checkpoint.ts";
import { ggufBytes } from "../support/gguf-bytes.ts";
import { byteMutation, jsonMutation, mutateJson } from "../support/mutations.ts";
import type { TokenizerValues } from "./vocabularies.ts";

/** Whatever is done to a tokenizer, it works or throws an error that says so, and ends soon. */

const runs = { numRuns: 500, interruptAfterTimeLimit: 3_000 };
const folder = join(import.meta.dirname, "..", "..", "models", "axon-guide");
const text = "Hello <|end|> 漢 lighthouse 123 🚀\n  end";

/** Loads, encodes and decodes. Returns how it ended. */
async function outcomeOf(path: string): Promise<string> {
  try {
    const tokenizer = await loadTokenizer(path);
    const ids = tokenizer.encodeChat([{ role: "user", content: text }]);
    const detokenizer = tokenizer.detokenizer();
    for (const id of ids) expect(typeof detokenizer.push(id)).toBe("string");
    expect(typeof detokenizer.flush()).toBe("string");
    return "works";
  } catch (error) {
    const isTyped = error instanceof TokenizerError || error instanceof EngineError;
    if (!isTyped) throw error;
    expect(["invalid_checkpoint", "invalid_tokenizer", "no_chat_template"]).toContain(
      /^unsupported_|_missing$/.test(error.code) ? "invalid_tokenizer" : error.code,
    );
    return "refused";
  }
}

const bothEnds = new Set(["works", "refused"]);

test("tokenizer.json and tokenizer_config.json with odd values", async () => {
  const whole = read("tokenizer.json");
  const { model, ...rest } = whole as { model: { vocab: object; merges: unknown[] } };
  const vocab = Object.fromEntries(Object.entries(model.vocab).slice(0, 300));
  const files = {
    "tokenizer.json": { ...rest, model: { ...model, vocab, merges: model.merges.slice(0, 40) } },
    "tokenizer_config.json": read("tokenizer_config.json"),
  };
  const target = temporaryFolder();
  const outcomes = new Set<string>();
  const names = fc.constantFrom(...(Object.keys(files) as (keyof typeof files)[]));
  await fc.assert(
    fc.asyncProperty(names, jsonMutation, async (damaged, mutation) => {
      for (const [name, value] of Object.entries(files)) {
        const content = name === damaged ? mutateJson(value, mutation) : JSON.stringify(value);
        writeFileSync(join(target, name), content);
      }
      outcomes.add(await outcomeOf(target));
    }),
    runs,
  );
  expect(outcomes).toEqual(bothEnds);
});

describe("the tokenizer of a GGUF file", () => {
  const bytes = Array.from({ length: 256 }, (_, i) =>
    i.toString(16).toUpperCase().padStart(2, "0"),
  );
  const common: TokenizerValues = {
    "general.architecture": "llama",
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 0,
    "tokenizer.chat_template": "{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}",
  };
  const kinds: Record<string, TokenizerValues> = {
    gpt2: {
      ...common,
      "tokenizer.ggml.model": "gpt2",
      "tokenizer.ggml.pre": "llama-bpe",
      "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", ..."elhoHĠdn12", "el", "Ġe", "end", "lo"],
      "tokenizer.ggml.token_type": [2, 3, 3, ...Array(14).fill(1)],
      "tokenizer.ggml.merges": ["e l", "Ġ e", "l o"],
    },
    llama: {
      ...common,
      "tokenizer.ggml.model": "llama",
      "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", ...bytes.map((b) => `<0x${b}>`), "▁", "▁▁"],
      "tokenizer.ggml.token_type": [2, 3, 3, ...Array(256).fill(6), 1, 1],
      "tokenizer.ggml.scores": { f32: [...Array(259).fill(0), -1, -2] },
    },
  };

  test.each(Object.entries(kinds))("%s with damaged bytes", async (_, values) => {
    const sound = ggufBytes(values);
    const path = join(temporaryFolder(), "model.gguf");
    const outcomes = new Set<string>();
    const mutations = fc.array(byteMutation(sound.length), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(mutations, async (steps) => {
        writeFileSync(
          path,
          steps.reduce<Buffer>((all, mutate) => mutate(all), sound),
        );
        outcomes.add(await outcomeOf(path));
      }),
      runs,
    );
    expect(outcomes).toEqual(bothEnds);
  });

  test.each(Object.entries(kinds))("%s with values of other types", async (_, values) => {
    const odd = fc.constantFrom<TokenizerValues[string]>(
      ...[
        "",
        "gpt2",
        "llama",
        "{{ messages | tojson }}",
        "{% for x in messages %}",
        "y".repeat(1e5),
      ],
      ...[true, false, 0, 3, 2 ** 32 - 1, [], [0], [-1, 5], ["a"], ["", ""], ["a b", "c d"]],
      ...[{ f32: Number.NaN }, { f32: [] }, { f32: [Number.NaN, 1] }],
    );
    const path = join(temporaryFolder(), "model.gguf");
    const outcomes = new Set<string>();
    const changes = fc.array(fc.tuple(fc.constantFrom(...Object.keys(values)), odd), {
      minLength: 1,
      maxLength: 3,
    });
    await fc.assert(
      fc.asyncProperty(changes, async (entries) => {
        writeFileSync(path, ggufBytes({ ...values, ...Object.fromEntries(entries) }));
        outcomes.add(await outcomeOf(path));
      }),
      runs,
    );
    expect(outcomes).toEqual(bothEnds);
  });
});

function read(file: string): object {
  return JSON.parse(readFileSync(join(folder, file), "utf8"));
}
