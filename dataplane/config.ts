import { z } from "zod";
import { redisUrlSchema } from "../events/redis-client.ts";

/** A mistake in the environment. Its message names each variable. */
class ConfigError extends Error {
  override readonly name = "ConfigError";
}

const common = {
  REDIS_URL: redisUrlSchema,
  LOG_LEVEL: z.enum(["DEBUG", "INFO", "WARN", "ERROR"]).default("INFO"),
  /** How long running turns may take to end after SIGTERM. */
  AXON_DRAIN_MS: z.coerce.number().int().min(0).default(10_000),
};

const listenAddress = z
  .string()
  .regex(/^.+:\d{1,5}$/, "HOST:PORT")
  .transform((text) => {
    const colon = text.lastIndexOf(":");
    return { host: text.slice(0, colon), port: Number(text.slice(colon + 1)) };
  });

/** Where Kubernetes asks how a process is: GET /live, GET /ready. */
const probes = { AXON_PROBES: listenAddress.optional() };

/** The folder of NCCL_DEBUG_FILE; only where a group spans nodes that EFA joins. */
const ncclLogs = { AXON_NCCL_LOGS: z.string().min(1).optional() };

const workerSchema = z.object({
  ...common,
  /** Ours, vLLM's server, or another that speaks OpenAI's API. */
  AXON_ENGINE: z.enum(["embedded", "vllm", "openai"]).default("embedded"),
  /** Where that server is. */
  AXON_ENGINE_URL: z.url({ protocol: /^https?$/ }).optional(),
  AXON_ENGINE_API_KEY: z.string().min(1).optional(),
  /** The model's name there, where the server has several. */
  AXON_ENGINE_MODEL: z.string().min(1).optional(),
  /** How long the server may take to load its model. */
  AXON_ENGINE_READY_MS: z.coerce.number().int().min(0).default(1_800_000),
  /** A server that has requests and takes no step for so long is stuck. */
  AXON_ENGINE_STALL_MS: z.coerce.number().int().min(1_000).default(60_000),
  /** Weights and tokenizer; of a server of text the tokenizer alone. vLLM's server has its own. */
  AXON_MODEL_DIR: z.string().min(1).optional(),
  AXON_REVISION: z.string().min(1),
  AXON_JOBS_QUEUE_URL: z.url(),
  AXON_JOBS_DEAD_QUEUE_URL: z.url(),
  AXON_REPORTS_QUEUE_URL: z.url(),
  /** Tensor-parallel size: over how many ranks the weights are split. */
  AXON_TP: z.coerce.number().int().min(1).max(256).default(2),
  /** Ranks are threads, processes of this host, or join from other hosts. */
  AXON_TRANSPORT: z.enum(["threads", "tcp", "remote"]).default("threads"),
  /** Where ranks of other hosts join. */
  AXON_LISTEN: listenAddress.optional(),
  /** What ranks of other hosts have to know. */
  AXON_GROUP_SECRET: z.string().min(16).optional(),
  AXON_WEIGHTS: z.enum(["int8", "f32"]).default("int8"),
  /** A shorter context than the model's takes less memory. */
  AXON_CONTEXT_TOKENS: z.coerce.number().int().min(1).optional(),
  /** Of the model behind a server, which would not survive a token that is not in it. */
  AXON_VOCABULARY_TOKENS: z.coerce.number().int().min(1).optional(),
  /** Memory for keys and values, of all ranks together. */
  AXON_CACHE_MIB: z.coerce.number().int().min(1).optional(),
  /** Turns that run at the same time. */
  AXON_SLOTS: z.coerce.number().int().min(1).max(256).default(16),
  /** A turn that nobody watches for so long is cancelled; 0 never does that. */
  AXON_ABANDON_MS: z.coerce.number().int().min(0).default(60_000),
  /** As slow as a larger model; 0 is as fast as it goes. */
  AXON_MS_PER_TOKEN: z.coerce.number().min(0).max(60_000).default(0),
  AXON_GROUP_ID: z.string().min(1).optional(),
  /** Tenants, with commas between them, whose prompts and answers may stand in their traces. */
  AXON_TRACE_CONTENT_TENANTS: z
    .string()
    .default("")
    .transform(
      (text) =>
        new Set(
          text
            .split(",")
            .map((name) => name.trim())
            .filter(Boolean),
        ),
    ),
  ...probes,
  ...ncclLogs,
  /** Nodes of the group besides this one, each with its `follower.ts`. */
  AXON_FOLLOWERS: z.coerce.number().int().min(0).max(15).default(0),
  /** Turns run and no step is made for so long: the engine is stuck. */
  AXON_STALL_MS: z.coerce.number().int().min(1_000).default(30_000),
});
export type WorkerConfig = z.infer<typeof workerSchema>;

const groupSchema = workerSchema
  .refine(
    ({ AXON_TRANSPORT, AXON_LISTEN, AXON_GROUP_SECRET }) =>
      AXON_TRANSPORT !== "remote" || (AXON_LISTEN !== undefined && AXON_GROUP_SECRET !== undefined),
    { path: ["AXON_TRANSPORT"], message: "remote needs AXON_LISTEN and AXON_GROUP_SECRET" },
  )
  .refine(
    ({ AXON_ENGINE, AXON_MODEL_DIR }) => AXON_ENGINE === "vllm" || AXON_MODEL_DIR !== undefined,
    { path: ["AXON_MODEL_DIR"], message: "is needed but with AXON_ENGINE=vllm" },
  )
  .refine(
    ({ AXON_ENGINE, AXON_ENGINE_URL }) =>
      AXON_ENGINE === "embedded" || AXON_ENGINE_URL !== undefined,
    { path: ["AXON_ENGINE_URL"], message: "is needed with AXON_ENGINE=vllm and openai" },
  );

const regularExpression = z.string().transform((text, context) => {
  try {
    return new RegExp(text);
  } catch {
    context.addIssue({ code: "custom", message: "is no regular expression" });
    return z.NEVER;
  }
});

const followerSchema = z.object({
  ...common,
  ...ncclLogs,
  AXON_GROUP_ID: z.string().min(1),
  /** Among the nodes of the group; the leader's is 0. */
  AXON_RANK: z.coerce.number().int().min(1).max(15),
  /** vLLM's server and its workers by the names that they give themselves. */
  AXON_WATCH: regularExpression.prefault("^VLLM::Worker\\w*|\\bvllm serve\\b"),
});
export type FollowerConfig = z.infer<typeof followerSchema>;

const fetchModelSchema = z.object({
  AXON_MODEL_URL: z
    .string()
    .regex(/^s3:\/\/[^/]+\/.*[^/]$/, "s3://BUCKET/FOLDER")
    .transform((url) => {
      const { hostname, pathname } = new URL(url);
      return { bucket: hostname, prefix: decodeURIComponent(pathname.slice(1)) };
    }),
  AXON_MODEL_DIR: z.string().min(1),
});

const relaySchema = z.object({
  ...common,
  ...probes,
  /** The callback API of the WebSocket gateway. */
  AXON_CONNECTIONS_ENDPOINT: z.url(),
  AWS_REGION: z.string().min(1),
  /** The account's quota is shared with every other API; stay below it. */
  AXON_CALLBACKS_PER_SECOND: z.coerce.number().int().min(1).default(8_000),
  /** Where the relay terminates WebSockets itself. */
  RELAY_LISTEN: listenAddress.optional(),
  /** Route → name or ARN of its Lambda function. */
  AXON_FUNCTIONS: z
    .string()
    .transform((text, context): unknown => {
      try {
        return JSON.parse(text);
      } catch {
        context.addIssue({ code: "custom", message: "is not JSON" });
        return z.NEVER;
      }
    })
    .pipe(z.record(z.string(), z.string().min(1)))
    .optional(),
});
export type RelayConfig = z.infer<typeof relaySchema>;

const doorSchema = relaySchema.refine(
  ({ RELAY_LISTEN, AXON_FUNCTIONS }) => RELAY_LISTEN === undefined || AXON_FUNCTIONS !== undefined,
  { path: ["RELAY_LISTEN"], message: "needs AXON_FUNCTIONS" },
);

type Environment = Record<string, string | undefined>;

/** @throws ConfigError naming each variable that is missing or wrong. */
export const workerConfig = (env: Environment): WorkerConfig => parse(groupSchema, env);

/** @throws ConfigError naming each variable that is missing or wrong. */
export const followerConfig = (env: Environment): FollowerConfig => parse(followerSchema, env);

/** @throws ConfigError naming each variable that is missing or wrong. */
export const fetchModelConfig = (env: Environment): z.infer<typeof fetchModelSchema> =>
  parse(fetchModelSchema, env);

/** @throws ConfigError naming each variable that is missing or wrong. */
export const relayConfig = (env: Environment): RelayConfig => parse(doorSchema, env);

function parse<T>(schema: z.ZodType<T>, env: Environment): T {
  const result = schema.safeParse(env);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
  throw new ConfigError(`The environment is incomplete. ${problems.join("; ")}`);
}
