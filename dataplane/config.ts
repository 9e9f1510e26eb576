import { z } from "zod";

/** A mistake in the environment. Its message names each variable. */
class ConfigError extends Error {
  override readonly name = "ConfigError";
}

const common = {
  REDIS_URL: z.url({ protocol: /^rediss?$/ }),
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

const workerSchema = z.object({
  ...common,
  AXON_MODEL_DIR: z.string().min(1),
  AXON_REVISION: z.string().min(1),
  AXON_JOBS_QUEUE_URL: z.url(),
  AXON_JOBS_DEAD_QUEUE_URL: z.url(),
  AXON_REPORTS_QUEUE_URL: z.url(),
  /** Tensor-parallel size: over how many ranks the weights are split. */
  AXON_TP: z.coerce.number().int().min(1).max(64).default(2),
  /** Ranks are threads, processes of this host, or join from other hosts. */
  AXON_TRANSPORT: z.enum(["threads", "tcp", "remote"]).default("threads"),
  /** Where ranks of other hosts join. */
  AXON_LISTEN: listenAddress.optional(),
  /** What ranks of other hosts have to know. */
  AXON_GROUP_SECRET: z.string().min(16).optional(),
  AXON_WEIGHTS: z.enum(["int8", "f32"]).default("int8"),
  /** A shorter context than the model's takes less memory. */
  AXON_CONTEXT_TOKENS: z.coerce.number().int().min(1).optional(),
  /** Memory for keys and values, of all ranks together. */
  AXON_CACHE_MIB: z.coerce.number().int().min(1).optional(),
  /** Turns that run at the same time. */
  AXON_SLOTS: z.coerce.number().int().min(1).max(256).default(16),
  /** A turn that nobody watches for so long is cancelled; 0 never does that. */
  AXON_ABANDON_MS: z.coerce.number().int().min(0).default(60_000),
  /** As slow as a larger model; 0 is as fast as it goes. */
  AXON_MS_PER_TOKEN: z.coerce.number().min(0).max(60_000).default(0),
  AXON_GROUP_ID: z.string().min(1).optional(),
});
export type WorkerConfig = z.infer<typeof workerSchema>;

const groupSchema = workerSchema.refine(
  ({ AXON_TRANSPORT, AXON_LISTEN, AXON_GROUP_SECRET }) =>
    AXON_TRANSPORT !== "remote" || (AXON_LISTEN !== undefined && AXON_GROUP_SECRET !== undefined),
  { path: ["AXON_TRANSPORT"], message: "remote needs AXON_LISTEN and AXON_GROUP_SECRET" },
);

const relaySchema = z.object({
  ...common,
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
export const relayConfig = (env: Environment): RelayConfig => parse(doorSchema, env);

function parse<T>(schema: z.ZodType<T>, env: Environment): T {
  const result = schema.safeParse(env);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
  throw new ConfigError(`The environment is incomplete. ${problems.join("; ")}`);
}
