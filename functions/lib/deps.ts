import type { Logger } from "@aws-lambda-powertools/logger";
import type { SQSClient } from "@aws-sdk/client-sqs";
import type { Pool } from "pg";
import type { ClusterPort } from "../../events/cluster-port.ts";
import type { EventLog } from "../../events/event-log.ts";
import type { RedisClient } from "../../events/redis-client.ts";
import { type AdmissionSettings, admissionLimits } from "./admission.ts";
import { type Authenticate, credentials } from "./authenticate.ts";
import { type CloseConnection, connections, type SendFrame } from "./connections.ts";
import { database } from "./database.ts";
import { eventLog } from "./event-log.ts";
import { type ModelCatalog, models } from "./models.ts";
import type { ReadObject } from "./objects.ts";
import { type Environment, provide } from "./provider.ts";
import { queues } from "./queues.ts";
import { type RateLimit, rateLimit } from "./rate-limit.ts";
import { redis } from "./redis.ts";

/** Everything that handlers reach beyond their arguments; each takes the part of it that it needs. */
export interface Deps {
  log: EventLog;
  redis: RedisClient;
  sqs: SQSClient;
  database: Pool;
  sendFrame: SendFrame;
  closeConnection: CloseConnection;
  models: ModelCatalog;
  authenticate: Authenticate;
  rate: RateLimit;
  admission: AdmissionSettings;
  /** Where groups run. */
  cluster: ClusterPort;
  /** Of the model bucket. */
  readObject: ReadObject;
  /** Unix time, ms. */
  now: () => number;
  logger: Logger;
}

/**
 * What all handlers together need, for a process that runs all of them, and has a cluster and a bucket
 * of its own.
 * @throws ConfigurationError naming each variable that is missing or wrong.
 */
export function depsFromEnvironment(env: Environment): Omit<Deps, "cluster" | "readObject"> {
  const limits = [rateLimit, admissionLimits];
  const stores = [eventLog, redis, queues, database];
  return provide([...stores, connections, models, credentials, ...limits], env);
}

export async function closeDeps(deps: Pick<Deps, "redis" | "sqs" | "database">): Promise<void> {
  deps.redis.disconnect();
  deps.sqs.destroy();
  await deps.database.end();
}
