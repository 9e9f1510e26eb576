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

const workerSchema = z.object({
  ...common,
  AXON_MODEL_DIR: z.string().min(1),
  AXON_REVISION: z.string().min(1),
  AXON_JOBS_QUEUE_URL: z.url(),
  AXON_JOBS_DEAD_QUEUE_URL: z.url(),
  AXON_REPORTS_QUEUE_URL: z.url(),
  /** Tensor-parallel size: over how many ranks the weights are split. */
  AXON_TP: z.coerce
    .number()
    .pipe(z.union([z.literal(1), z.literal(2), z.literal(4)]))
    .default(2),
  /** Turns that run at the same time. */
  AXON_SLOTS: z.coerce.number().int().min(1).max(256).default(16),
  AXON_GROUP_ID: z.string().min(1).optional(),
});
export type WorkerConfig = z.infer<typeof workerSchema>;

const relaySchema = z.object({
  ...common,
  /** The callback API of the WebSocket gateway. */
  AXON_CONNECTIONS_ENDPOINT: z.url(),
  /** The account's quota is shared with every other API; stay below it. */
  AXON_CALLBACKS_PER_SECOND: z.coerce.number().int().min(1).default(8_000),
});
export type RelayConfig = z.infer<typeof relaySchema>;

type Environment = Record<string, string | undefined>;

/** @throws ConfigError naming each variable that is missing or wrong. */
export const workerConfig = (env: Environment): WorkerConfig => parse(workerSchema, env);

/** @throws ConfigError naming each variable that is missing or wrong. */
export const relayConfig = (env: Environment): RelayConfig => parse(relaySchema, env);

function parse<T>(schema: z.ZodType<T>, env: Environment): T {
  const result = schema.safeParse(env);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
  throw new ConfigError(`The environment is incomplete. ${problems.join("; ")}`);
}
