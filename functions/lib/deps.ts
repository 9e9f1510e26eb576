import type { Logger } from "@aws-lambda-powertools/logger";
import type { SQSClient } from "@aws-sdk/client-sqs";
import type { ClusterPort } from "../../events/cluster-port.ts";
import type { CachedDataKeys, DataKeyRegister } from "../../events/data-keys.ts";
import type { EventLog } from "../../events/event-log.ts";
import type { SealedEventLog } from "../../events/event-log-sealed.ts";
import type { LogEraser } from "../../events/log-eraser.ts";
import type { RedisClient } from "../../events/redis-client.ts";
import type { Tracing } from "../../events/tracing/tracing.ts";
import { type AdmissionSettings, admissionLimits } from "./admission/admission.ts";
import { type RateLimit, rateLimit } from "./admission/rate-limit.ts";
import { type CloseConnection, connections, type SendFrame } from "./connections.ts";
import { type Authenticate, credentials } from "./credentials/authenticate.ts";
import { erasers } from "./data/erasers.ts";
import { type Database, database } from "./database.ts";
import type { MetricSink } from "./emf.ts";
import { eventLog } from "./event-log.ts";
import { type ModelCatalog, models } from "./models.ts";
import type { ReadObject } from "./objects.ts";
import { type StageFacts, stageFacts } from "./operations/operator.ts";
import { type Environment, provide } from "./provider.ts";
import { queues } from "./queues.ts";
import { redis } from "./redis.ts";

/** Everything that handlers reach beyond their arguments; each takes the part of it that it needs. */
export interface Deps {
  log: EventLog;
  /** Commits of the table's stream have their words sealed. */
  openCommits: SealedEventLog["open"];
  dataKeys: CachedDataKeys;
  keyRegister: DataKeyRegister;
  logEraser: LogEraser;
  redis: RedisClient;
  sqs: SQSClient;
  database: Database;
  sendFrame: SendFrame;
  closeConnection: CloseConnection;
  models: ModelCatalog;
  authenticate: Authenticate;
  rate: RateLimit;
  admission: AdmissionSettings;
  facts: StageFacts;
  /** Where groups run. */
  cluster: ClusterPort;
  /** Of the model bucket. */
  readObject: ReadObject;
  /** Unix time, ms. */
  now: () => number;
  logger: Logger;
  /** Where nothing is traced there is none. */
  tracing?: Tracing | undefined;
  /** Undefined where nobody makes metrics of the log. */
  metrics?: MetricSink | undefined;
}

/**
 * What all handlers together need, for a process that runs all of them, and has a cluster and a bucket
 * of its own. It opens its own tracing.
 * @throws ConfigurationError naming each variable that is missing or wrong.
 */
export function depsFromEnvironment(env: Environment): Omit<Deps, "cluster" | "readObject"> {
  const limits = [rateLimit, admissionLimits];
  const stores = [eventLog, erasers, redis, queues, database];
  return provide([...stores, connections, models, credentials, stageFacts, ...limits], env);
}

export async function closeDeps(deps: Pick<Deps, "redis" | "sqs" | "database">): Promise<void> {
  deps.redis.disconnect();
  deps.sqs.destroy();
  await deps.database.end();
}
