import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { Template } from "@huggingface/jinja";
import { Tokenizer } from "@huggingface/tokenizers";
import { z } from "zod";
import { startEmbeddedEngine } from "../../dataplane/engine/embedded.ts";
import type { Engine, WeightFormat } from "../../dataplane/engine/engine.ts";
import { EngineError } from "../../dataplane/engine/engine-error.ts";
import { loadTokenizer } from "../../dataplane/tokenizer.ts";
import { readTokenizerFiles } from "../../dataplane/tokenizer-files.ts";

/**
 * An OpenAI-compatible server in front of the embedded engine, that answers as vLLM 0.32 was seen to:
 * with token ids, the one that ends an answer among them; with templates that know of no safety; with
 * its metrics and its errors. And it can be made to fail.
 */
export interface ModelServer {
  url: string;
  /** Completions that are not over. */
  running(): number;
  /** Bodies of completions, oldest first. */
  asked: Completion[];
  faults: {
    /** So many completions are answered with 503. */
    refuse: number;
    /** So many completions break off after two tokens. */
    breakOff: number;
    /** Completions begin and say nothing, and the count of steps stands still. */
    stall: boolean;
    /** What /health says. */
    health: number;
    /** Requests of others, which wait. */
    othersWaiting: number;
    othersRunning: number;
    /** The answer has no ids, as of other servers than vLLM. */
    noIds: boolean;
    /** Where it is set, the key that has to be sent. */
    apiKey?: string;
  };
  /** Every connection breaks, and nobody listens any more, until `listen`. */
  kill(): Promise<void>;
  listen(): Promise<void>;
  close(): Promise<void>;
}

const completionSchema = z.looseObject({
  model: z.string(),
  prompt: z.union([z.array(z.int().min(0)), z.string()]),
  max_tokens: z.int().default(16),
  temperature: z.number().default(1),
  top_k: z.int().default(0),
  top_p: z.number().default(1),
  min_p: z.number().default(0),
  repetition_penalty: z.number().default(1),
  seed: z.int().default(0),
  stream: z.boolean().default(false),
  return_token_ids: z.boolean().default(false),
  cache_salt: z.string().min(1).optional(),
});
type Completion = z.infer<typeof completionSchema>;

const tokenizeSchema = z.looseObject({
  prompt: z.string().optional(),
  messages: z.array(z.object({ role: z.string(), content: z.string() })).optional(),
  return_token_strs: z.boolean().default(false),
});

const model = "axon-guide";

class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export async function startModelServer(
  modelDir: string,
  {
    slots = 16,
    msPerToken = 0,
    weights = "f32",
  }: { slots?: number; msPerToken?: number; weights?: WeightFormat } = {},
): Promise<ModelServer> {
  const engine = await startEmbeddedEngine({
    ...{ modelDir, ranks: 1, transport: "threads", slots, tokensPerStep: 64, weights },
  });
  const codec = await codecOf(modelDir);
  const faults: ModelServer["faults"] = {
    ...{ refuse: 0, breakOff: 0, stall: false, health: 200 },
    ...{ othersWaiting: 0, othersRunning: 0, noIds: false },
  };
  const asked: Completion[] = [];
  const context: Context = { engine, codec, faults, asked, msPerToken, open: new Set() };
  const sockets = new Set<Socket>();
  const server = createServer((request, response) => {
    serve(context, request, response).catch((error: unknown) => {
      if (response.headersSent) return response.destroy();
      const status = error instanceof Refusal ? error.status : 500;
      const message = error instanceof Error ? error.message : String(error);
      return json(response, status, { error: { message, code: status, type: "error" } });
    });
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  let port = 0;
  const listen = async () => {
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    port = (server.address() as AddressInfo).port;
  };
  const kill = async () => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  await listen();
  return {
    url: `http://127.0.0.1:${port}`,
    ...{ asked, faults, listen, kill },
    running: () => context.open.size,
    async close() {
      if (server.listening) await kill();
      await engine.close();
    },
  };
}

interface Context {
  engine: Awaited<ReturnType<typeof startEmbeddedEngine>>;
  codec: Awaited<ReturnType<typeof codecOf>>;
  faults: ModelServer["faults"];
  asked: Completion[];
  msPerToken: number;
  /** Of completions that are not over. The engine may be far ahead of what it is allowed to say. */
  open: Set<ServerResponse>;
}

/** Prompts as the model's files say, without the care that our own tokenizer takes. */
async function codecOf(modelDir: string) {
  const { json: files, config } = await readTokenizerFiles(modelDir);
  const tokenizer = new Tokenizer(files, config);
  const template = new Template(config.chat_template ?? "");
  const { vocab } = z.object({ vocab: z.record(z.string(), z.number()) }).parse(files["model"]);
  const strings = new Map(Object.entries(vocab).map(([token, id]) => [id, token]));
  for (const { id, content } of files.added_tokens) strings.set(id, content);
  const encode = (text: string): number[] =>
    text === "" ? [] : tokenizer.encode(text, { add_special_tokens: false }).ids;
  return {
    encode,
    encodeChat: (messages: unknown) =>
      encode(
        template.render({
          ...{ messages, add_generation_prompt: true },
          ...{ bos_token: config.bos_token ?? "", eos_token: config.eos_token ?? "" },
        }),
      ),
    stringOf: (id: number) => strings.get(id) ?? "",
    local: await loadTokenizer(modelDir),
  };
}

async function serve(context: Context, request: IncomingMessage, response: ServerResponse) {
  const { faults, engine } = context;
  const { apiKey } = faults;
  const isOpen = apiKey === undefined || request.headers.authorization === `Bearer ${apiKey}`;
  const path = request.url ?? "";
  if (path.startsWith("/v1") && !isOpen) throw new Refusal(401, "Unauthorized");
  const { contextLength } = engine.describe();
  switch (path) {
    case "/health":
      return void response.writeHead(faults.health).end();
    case "/metrics":
      return void response.end(metricsOf(context));
    case "/v1/models":
      return json(response, 200, { data: [{ id: model, max_model_len: contextLength }] });
    case "/tokenize":
      return tokenize(context, tokenizeSchema.parse(await bodyOf(request)), response);
    case "/v1/completions":
      return complete(context, completionSchema.parse(await bodyOf(request)), response);
    default:
      throw new Refusal(404, "Not Found");
  }
}

function metricsOf({ engine, faults, open }: Context): string {
  const { waitingTurns, steps, cache } = engine.health();
  const runningTurns = open.size - waitingTurns;
  const labels = `{engine="0",model_name="${model}"}`;
  return [
    "# TYPE vllm:num_requests_running gauge",
    `vllm:num_requests_running${labels} ${runningTurns + faults.othersRunning}.0`,
    `vllm:num_requests_waiting${labels} ${waitingTurns + faults.othersWaiting}.0`,
    `vllm:kv_cache_usage_perc${labels} ${cache.usedPages / cache.pages}`,
    `vllm:iteration_tokens_total_bucket{engine="0",le="1.0"} ${steps}`,
    `vllm:iteration_tokens_total_count${labels} ${faults.stall ? 0 : steps}.0`,
    `vllm:prefix_cache_hits_total${labels} ${cache.reusedTokens}.0`,
    `vllm:num_preemptions_total${labels} ${cache.preemptions}.0`,
    `vllm:cache_config_info{block_size="16",num_gpu_blocks="${cache.pages}"} 1.0`,
    "",
  ].join("\n");
}

function tokenize(
  { codec, engine }: Context,
  { prompt, messages, return_token_strs: withStrings }: z.infer<typeof tokenizeSchema>,
  response: ServerResponse,
): void {
  if (prompt === undefined && messages === undefined) throw new Refusal(400, "no prompt");
  const tokens = messages === undefined ? codec.encode(prompt ?? "") : codec.encodeChat(messages);
  json(response, 200, {
    ...{ count: tokens.length, max_model_len: engine.describe().contextLength, tokens },
    token_strs: withStrings ? tokens.map(codec.stringOf) : null,
  });
}

async function complete(context: Context, asked: Completion, response: ServerResponse) {
  const { codec, engine, faults } = context;
  context.asked.push(asked);
  const { prompt, max_tokens: maxTokens, stream } = asked;
  if (faults.refuse > 0) {
    faults.refuse--;
    throw new Refusal(503, "The server is overloaded.");
  }
  if (asked.temperature < 0) throw new Refusal(400, "temperature must be non-negative");
  const promptTokens = typeof prompt === "string" ? codec.encode(prompt) : prompt;
  const { contextLength } = engine.describe();
  if (promptTokens.length + maxTokens > contextLength) {
    throw new Refusal(400, `This model's maximum context length is ${contextLength} tokens.`);
  }
  const over = new AbortController();
  context.open.add(response);
  response.on("close", () => {
    context.open.delete(response);
    over.abort();
  });
  const events = engine.generate({
    ...{ id: "served", promptTokens, emittedTokens: [], maxTokens, signal: over.signal },
    ...(asked.cache_salt !== undefined && { cacheScope: asked.cache_salt }),
    sampling: {
      ...{ temperature: asked.temperature, topK: Math.max(0, asked.top_k), topP: asked.top_p },
      ...{ minP: asked.min_p, repetitionPenalty: asked.repetition_penalty, seed: asked.seed },
    },
  });
  const choices = choicesOf(context, asked, promptTokens, events);
  if (stream) return speak(context, response, choices);
  const all = [];
  for await (const choice of choices) all.push(choice);
  const usage = { prompt_tokens: promptTokens.length };
  const ids = faults.noIds ? undefined : all.flatMap((choice) => choice.token_ids ?? []);
  return json(response, 200, { choices: [{ ...all.at(-1), token_ids: ids }], usage });
}

/** Each token with its text; the one that ends the answer with none. */
async function* choicesOf(
  { codec, engine, faults, msPerToken }: Context,
  asked: Completion,
  promptTokens: readonly number[],
  events: ReturnType<Engine["generate"]>,
) {
  const isSilent = faults.noIds || !asked.return_token_ids;
  const idsOf = (...ids: number[]) => ({ token_ids: isSilent ? null : ids });
  const detokenizer = codec.local.detokenizer();
  // The prompt may end within a character.
  for (const token of promptTokens.slice(-24)) detokenizer.push(token);
  const [end = 0] = engine.describe().eosTokens;
  try {
    for await (const event of events) {
      if (event.type === "token") {
        if (msPerToken > 0) await new Promise((resolve) => setTimeout(resolve, msPerToken));
        const text = detokenizer.push(event.token);
        yield { text, finish_reason: null, ...idsOf(event.token) };
      } else if (event.reason === "stop") {
        yield { text: "", finish_reason: "stop", ...idsOf(end) };
      } else {
        yield { text: detokenizer.flush(), finish_reason: "length", ...idsOf() };
      }
    }
  } catch (error) {
    if (error instanceof EngineError && error.code !== "internal") {
      throw new Refusal(400, error.message);
    }
    throw error;
  }
}

async function speak(
  { faults }: Context,
  response: ServerResponse,
  choices: AsyncIterable<{ text: string; finish_reason: string | null }>,
): Promise<void> {
  let begun = 0;
  for await (const choice of choices) {
    if (begun === 0) response.writeHead(200, { "content-type": "text/event-stream" });
    begun++;
    if (faults.stall) await new Promise((resolve) => response.on("close", resolve));
    if (response.destroyed) return;
    response.write(`data: ${JSON.stringify({ choices: [{ index: 0, ...choice }] })}\n\n`);
    if (begun < 2 || faults.breakOff === 0) continue;
    faults.breakOff--;
    await new Promise((resolve) => setTimeout(resolve, 20));
    return void response.destroy();
  }
  response.end("data: [DONE]\n\n");
}

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  let text = "";
  for await (const chunk of request) text += chunk;
  return JSON.parse(text);
}
