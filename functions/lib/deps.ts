import { Logger } from "@aws-lambda-powertools/logger";
import { ApiGatewayManagementApiClient } from "@aws-sdk/client-apigatewaymanagementapi";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { SQSClient } from "@aws-sdk/client-sqs";
import { Redis } from "ioredis";
import { Pool } from "pg";
import { z } from "zod";
import type { EventLog } from "../../events/event-log.ts";
import { dynamoDbEventLog } from "../../events/event-log-dynamodb.ts";
import type { AdmissionSettings } from "./admission.ts";
import { type Authenticate, apiKeysSchema, authenticator } from "./authenticate.ts";
import {
  apiGatewayCloser,
  apiGatewaySender,
  type CloseConnection,
  type SendFrame,
} from "./connections.ts";
import { type ModelCatalog, modelCatalog, modelsSchema } from "./models.ts";
import type { RateLimit } from "./rate-limit.ts";

/** Everything that a handler reaches beyond its arguments. */
export interface Deps {
  log: EventLog;
  redis: Redis;
  sqs: SQSClient;
  database: Pool;
  sendFrame: SendFrame;
  closeConnection: CloseConnection;
  models: ModelCatalog;
  authenticate: Authenticate;
  rate: RateLimit;
  admission: AdmissionSettings;
  /** Unix time, ms. */
  now: () => number;
  logger: Logger;
}

/** JSON in a variable, parsed before the schema of what it holds. */
const json = z.string().transform((text, context): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    context.addIssue({ code: "custom", message: "is not JSON" });
    return z.NEVER;
  }
});

const environmentSchema = z
  .object({
    REDIS_URL: z.url({ protocol: /^rediss?$/ }),
    DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/ }),
    AXON_EVENTS_TABLE: z.string().min(1),
    AXON_CONNECTIONS_ENDPOINT: z.url({ protocol: /^https?$/ }),
    AXON_MODELS: json.pipe(modelsSchema),
    AXON_API_KEYS: z.string().default("[]").pipe(json).pipe(apiKeysSchema),
    AXON_JWKS_URL: z.url().optional(),
    AXON_JWT_ISSUER: z.string().min(1).optional(),
    AXON_JWT_AUDIENCE: z.string().min(1).optional(),
    /** Turns that one tenant may ask for, a minute and at once. */
    AXON_RATE_PER_MINUTE: z.coerce.number().positive().default(600),
    AXON_RATE_BURST: z.coerce.number().int().min(1).default(120),
    /** Turns of one tenant that are sent to a revision's queue or run, at a time. */
    AXON_TENANT_IN_FLIGHT: z.coerce.number().int().min(1).default(8),
    /** By tenant, how often it is served in one round of the others; 1 where it is not named. */
    AXON_TENANT_WEIGHTS: z
      .string()
      .default("{}")
      .pipe(json)
      .pipe(z.record(z.string(), z.number().min(0.01).max(1_000))),
    /** Turns in flight at a revision of which no group is known. */
    AXON_DEFAULT_ROOM: z.coerce.number().int().min(1).default(32),
    /** A turn that would wait longer than this is refused. */
    AXON_MAX_WAIT_MS: z.coerce.number().int().min(0).default(120_000),
    LOG_LEVEL: z.enum(["DEBUG", "INFO", "WARN", "ERROR", "SILENT"]).default("INFO"),
  })
  .transform((env, context) => {
    const { AXON_JWKS_URL, AXON_JWT_ISSUER, AXON_JWT_AUDIENCE, ...rest } = env;
    if (AXON_JWKS_URL === undefined) return { ...rest, tokens: undefined };
    if (AXON_JWT_ISSUER === undefined || AXON_JWT_AUDIENCE === undefined) {
      context.addIssue({
        code: "custom",
        path: [AXON_JWT_ISSUER === undefined ? "AXON_JWT_ISSUER" : "AXON_JWT_AUDIENCE"],
        message: "must be set together with AXON_JWKS_URL",
      });
      return z.NEVER;
    }
    const tokens = {
      jwksUrl: AXON_JWKS_URL,
      issuer: AXON_JWT_ISSUER,
      audience: AXON_JWT_AUDIENCE,
    };
    return { ...rest, tokens };
  });

/**
 * Connections are opened by the first call that needs them. A Lambda is frozen between calls and may
 * wake up with sockets that died in its sleep: each client notices within seconds and dials again.
 * @throws Error naming each variable that is missing or wrong.
 */
export function depsFromEnvironment(env: Record<string, string | undefined>): Deps {
  const result = environmentSchema.safeParse(env);
  if (!result.success) {
    const problems = result.error.issues.map(
      ({ path, message }) => `${path.join(".")}: ${message}`,
    );
    throw new Error(`The environment is incomplete. ${problems.join("; ")}`);
  }
  const config = result.data;
  const logger = new Logger({ serviceName: "axon-functions", logLevel: config.LOG_LEVEL });
  const requestHandler = {
    connectionTimeout: 1_000,
    requestTimeout: 5_000,
    throwOnRequestTimeout: true,
  };
  const dynamoDb = new DynamoDBClient({ maxAttempts: 3, requestHandler });
  const gateway = new ApiGatewayManagementApiClient({
    endpoint: config.AXON_CONNECTIONS_ENDPOINT,
    maxAttempts: 3,
    requestHandler,
  });
  return {
    log: dynamoDbEventLog(dynamoDb, config.AXON_EVENTS_TABLE),
    redis: lazyRedis(config.REDIS_URL, logger),
    sqs: new SQSClient({ maxAttempts: 3, requestHandler }),
    database: lazyDatabase(config.DATABASE_URL, logger),
    sendFrame: apiGatewaySender(gateway),
    closeConnection: apiGatewayCloser(gateway),
    models: modelCatalog(config.AXON_MODELS),
    authenticate: authenticator(config.AXON_API_KEYS, config.tokens),
    rate: { perMinute: config.AXON_RATE_PER_MINUTE, burst: config.AXON_RATE_BURST },
    admission: {
      tenantInFlight: config.AXON_TENANT_IN_FLIGHT,
      tenantWeights: config.AXON_TENANT_WEIGHTS,
      tenantHeld: 100,
      roomFactor: 2,
      defaultRoom: config.AXON_DEFAULT_ROOM,
      maxWaitMs: config.AXON_MAX_WAIT_MS,
    },
    now: Date.now,
    logger,
  };
}

export async function closeDeps(deps: Deps): Promise<void> {
  deps.redis.disconnect();
  deps.sqs.destroy();
  await deps.database.end();
}

export function lazyRedis(url: string, logger: Logger): Redis {
  const redis = new Redis(url, {
    lazyConnect: true,
    connectTimeout: 2_000,
    socketTimeout: 2_000,
    maxRetriesPerRequest: 2,
    retryStrategy: (attempt) => Math.min(50 * 2 ** attempt, 1_000),
  });
  redis.on("error", (error) => logger.warn("Redis is away", { error }));
  return redis;
}

export function lazyDatabase(url: string, logger: Logger): Pool {
  const pool = new Pool({
    connectionString: url,
    max: 5,
    connectionTimeoutMillis: 3_000,
    idleTimeoutMillis: 30_000,
    query_timeout: 10_000,
    keepAlive: true,
  });
  // An idle connection that breaks is an event of the pool, which would end the process unheard.
  pool.on("error", (error) => logger.warn("PostgreSQL is away", { error }));
  return pool;
}
