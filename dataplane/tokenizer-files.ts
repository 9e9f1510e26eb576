import { existsSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { readGgufHeader } from "./engine/checkpoint/gguf-header.ts";
import { resolveModelPath } from "./engine/checkpoint/model-path.ts";
import { ggufTokenizer } from "./gguf-tokenizer.ts";
import { TokenizerError } from "./tokenizer-error.ts";

/** The largest tokenizer.json that is known has 33 MB. */
const maxFileBytes = 1 << 28;
/** Of all added tokens together: each character costs some hundred bytes of memory. */
const maxAddedLength = 1 << 20;
const maxAddedTokens = 1 << 16;

const addedTokenSchema = z.looseObject({
  id: z.int().min(0),
  content: z.string().min(1),
  special: z.boolean(),
});
export type AddedToken = z.infer<typeof addedTokenSchema>;

const jsonSchema = z.looseObject({
  added_tokens: z
    .array(addedTokenSchema)
    .max(maxAddedTokens)
    .default([])
    .refine(
      (tokens) => tokens.reduce((sum, { content }) => sum + content.length, 0) <= maxAddedLength,
      `added tokens may have ${maxAddedLength} characters together`,
    ),
});
const namedTokenSchema = z
  .union([z.string(), z.looseObject({ content: z.string() })])
  .transform((token) => (typeof token === "string" ? token : token.content));
/** A model with several templates gives each a name; the one for chat is "default". */
const templateSchema = z
  .union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))])
  .transform((found) => {
    return typeof found === "string"
      ? found
      : found.find(({ name }) => name === "default")?.template;
  });
const configSchema = z.looseObject({
  chat_template: templateSchema.nullish(),
  bos_token: namedTokenSchema.nullish(),
  eos_token: namedTokenSchema.nullish(),
});

/** A tokenizer in the form of Hugging Face's files, parsed. */
export interface TokenizerFiles {
  /** tokenizer.json */
  json: z.infer<typeof jsonSchema>;
  /** tokenizer_config.json */
  config: z.infer<typeof configSchema>;
  /** The token that each prompt begins with, where the chat template does not see to it. */
  beginId?: number | undefined;
}

/**
 * Reads the tokenizer of a model, which `Checkpoint.open` would take. Throws TokenizerError, or
 * EngineError for a damaged GGUF file.
 */
export async function readTokenizerFiles(modelPath: string): Promise<TokenizerFiles> {
  const { layout, path } = resolveModelPath(modelPath);
  if (layout === "gguf") {
    const files = ggufTokenizer(readGgufHeader(path).metadata);
    return { ...files, json: parse(path, jsonSchema, files.json) };
  }
  const json = parse(path, jsonSchema, await readJson(path, "tokenizer.json"));
  const config = parse(path, configSchema, await readJson(path, "tokenizer_config.json"));
  const templatePath = join(path, "chat_template.jinja");
  if (!existsSync(templatePath)) return { json, config };
  return { json, config: { ...config, chat_template: await readText(templatePath) } };
}

async function readJson(folder: string, file: string): Promise<unknown> {
  const text = await readText(join(folder, file));
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new TokenizerError("invalid_tokenizer", `${join(folder, file)} is no JSON.`, { cause });
  }
}

async function readText(path: string): Promise<string> {
  try {
    const { size } = statSync(path);
    if (size > maxFileBytes) throw new Error(`it has ${size} bytes`);
    return await readFile(path, "utf8");
  } catch (cause) {
    const message = `${path} cannot be read: is this a model's folder?`;
    throw new TokenizerError("tokenizer_missing", message, { cause });
  }
}

function parse<T>(path: string, schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [first] = result.error.issues;
  const message = `The tokenizer of ${path}: ${first?.path.join(".")}: ${first?.message}.`;
  throw new TokenizerError("invalid_tokenizer", message, { cause: result.error });
}
