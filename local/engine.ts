import { createHash } from "node:crypto";
import { z } from "zod";
import { type ServedModel, servedModel } from "../dataplane/openai/served-model.ts";
import { Server } from "../dataplane/openai/server.ts";
import { describeModel, queueSafe, type StageModel, samplingOf } from "./model.ts";
import { StageError } from "./part.ts";

/** What the stage serves, and how its groups are told of it. */
export interface StageEngine {
  model: StageModel;
  /** Of the groups that serve it. */
  env: Record<string, string>;
  /** Whether the revision's name holds a hash of the checkpoint here. */
  isHashed: boolean;
}

const engineSchema = z.object({
  AXON_ENGINE: z.enum(["embedded", "vllm", "openai"]).default("embedded"),
  AXON_ENGINE_URL: z.url({ protocol: /^https?$/ }).optional(),
  AXON_ENGINE_API_KEY: z.string().optional(),
  AXON_ENGINE_MODEL: z.string().optional(),
  AXON_CONTEXT_TOKENS: z.coerce.number().int().min(1).optional(),
});

/**
 * The engine that the environment asks for: ours with the model in `modelDir`, a server of text with the
 * tokenizer in `modelDir`, or a vLLM server, which knows all there is to know of its model.
 * @throws StageError invalid_option, model_missing, engine_missing
 */
export async function stageEngine(
  modelDir: string,
  ranks: number,
  env: NodeJS.ProcessEnv,
): Promise<StageEngine> {
  const parsed = engineSchema.safeParse(env);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new StageError("invalid_option", `${issue?.path.join(".")}: ${issue?.message}`);
  }
  const { AXON_ENGINE: kind, AXON_ENGINE_URL: url } = parsed.data;
  if (kind === "embedded") {
    const groupEnv = { AXON_MODEL_DIR: modelDir, AXON_TP: String(ranks) };
    return { model: describeModel(modelDir), env: groupEnv, isHashed: true };
  }
  if (url === undefined) {
    throw new StageError(
      "invalid_option",
      `AXON_ENGINE=${kind} needs AXON_ENGINE_URL, such as http://127.0.0.1:8000.`,
    );
  }
  const served = await modelAt(url, parsed.data);
  const asked = parsed.data.AXON_CONTEXT_TOKENS;
  // The server's ranks are its own.
  const groupEnv = { AXON_TP: env["AXON_TP"] ?? "1" };
  if (kind === "vllm") {
    return { model: describeServed(served, asked), env: groupEnv, isHashed: false };
  }
  const model = describeModel(modelDir);
  const contextTokens = asked ?? served.contextLength ?? model.contextTokens;
  return {
    model: { ...model, contextTokens },
    env: { ...groupEnv, AXON_MODEL_DIR: modelDir, AXON_CONTEXT_TOKENS: String(contextTokens) },
    isHashed: true,
  };
}

async function modelAt(
  url: string,
  { AXON_ENGINE_API_KEY: apiKey, AXON_ENGINE_MODEL: name }: z.infer<typeof engineSchema>,
): Promise<ServedModel> {
  const server = new Server({ url, ...(apiKey !== undefined && { apiKey }) });
  try {
    return await servedModel(server, name);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const message = `No model is served at AXON_ENGINE_URL: ${why} Start the server first, for one: vllm serve MODEL.`;
    throw new StageError("engine_missing", message, cause);
  }
}

/** A server tells its model's name and context, not its weights: what has another name is another revision. */
function describeServed({ id, contextLength }: ServedModel, asked: number | undefined): StageModel {
  const contextTokens = Math.min(asked ?? Number.POSITIVE_INFINITY, contextLength ?? 0);
  if (contextTokens < 1) {
    throw new StageError("engine_missing", `The server does not say how long ${id}'s context is.`);
  }
  const model = id.replace(/\/+$/, "").split("/").at(-1) ?? id;
  const hash = createHash("sha256")
    .update(JSON.stringify(["vllm", id]))
    .digest("hex");
  return {
    model,
    revision: `${queueSafe(model)}-${hash.slice(0, 12)}`,
    contextTokens,
    sampling: samplingOf({}, contextTokens),
  };
}
