import { join } from "node:path";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { GetQueueAttributesCommand, SQSClient } from "@aws-sdk/client-sqs";
import { z } from "zod";
import { type SocketEvent, socketLimits } from "../dataplane/relay/sockets.ts";
import type { EventLog } from "../events/event-log.ts";
import { cancel } from "../functions/cancel.ts";
import { chat } from "../functions/chat.ts";
import { completions } from "../functions/completions.ts";
import { connect } from "../functions/connect.ts";
import { data } from "../functions/data.ts";
import { disconnect } from "../functions/disconnect.ts";
import { dispatch } from "../functions/dispatch.ts";
import { erase } from "../functions/erase.ts";
import { history } from "../functions/history.ts";
import { closeDeps, type Deps, depsFromEnvironment } from "../functions/lib/deps.ts";
import { openFunctionTracing } from "../functions/lib/lambda.ts";
import { migrate } from "../functions/lib/migrate.ts";
import { manage } from "../functions/manage.ts";
import { manifest } from "../functions/manifest.ts";
import { observe } from "../functions/observe.ts";
import { operate } from "../functions/operate.ts";
import { ops } from "../functions/ops.ts";
import { project } from "../functions/project.ts";
import { report } from "../functions/report.ts";
import { resume } from "../functions/resume.ts";
import { sweep } from "../functions/sweep.ts";
import { unrouted } from "../functions/unrouted.ts";
import { pause } from "./bell.ts";
import { localBucket } from "./bucket.ts";
import { postgresCheckpoint } from "./checkpoints.ts";
import { adoptModel } from "./cluster/adopt.ts";
import { localModels } from "./cluster/local-models.ts";
import { localCluster } from "./cluster/local-port.ts";
import { removeRetiredQueues } from "./cluster/retired.ts";
import { type RevisionQueues, revisionQueues } from "./cluster/revision-queues.ts";
import { revisionsFolder } from "./cluster/revisions.ts";
import { supervisorOf } from "./cluster/supervisor-link.ts";
import { type ControlPlaneConfig, controlPlaneSchema } from "./control-plane-config.ts";
import {
  queueSource,
  schedule,
  type TableStreamFunction,
  tableStreamHandle,
} from "./event-sources.ts";
import { type SocketRoutes, startGateway } from "./gateway.ts";
import { urlHost } from "./gateway-access.ts";
import { startLambdaApi } from "./lambda-api.ts";
import { invoke, type LambdaFunction } from "./lambda-context.ts";
import { followLog, type LogFollower } from "./log-follower.ts";
import { createEventTable, createKeyTable, createQueue, type QueuePair } from "./provision.ts";

/**
 * The control plane of the local stage, a process of its own: every handler of functions/, and what
 * calls them on AWS. It is told by the supervisor, its parent:
 *
 *   AXON_STAGE, as control-plane-config.ts has it, beside the environment of functions/
 *   "quiesce" over IPC   take no new connections; those that are open go on
 *   SIGTERM              stop
 */
const sweepEveryMs = 15_000;
/**
 * Commits of a shard in one call of a function. All shards have one process and one database here: more would
 * not be done in the time that a call has on a machine that is busy, and be begun again.
 */
const followedAtOnce = 20;
/** A minute on AWS, where nobody waits and watches. */
const manageEveryMs = 1_000;

async function start() {
  const config = controlPlaneSchema.parse(JSON.parse(process.env["AXON_STAGE"] ?? "{}"));
  const sqs = new SQSClient();
  const perRevision = revisionQueues(sqs);
  const queues = await provision(sqs, perRevision, config);
  const base = await baseDeps(config, queues);
  const onError = (error: unknown) =>
    base.logger.error("an event source", { error: error as Error });
  await migrate(base.database);
  const { log, follow, ...followers } = logFollowers(base, onError);
  const bucket = localBucket(join(config.dataDir, "bucket"), onError);
  const deps: Deps = {
    ...base,
    log,
    readObject: bucket.read,
    models: localModels(base.models.pick(undefined), revisionsFolder(config.dataDir)),
    cluster: localCluster({
      ...{ supervisor: supervisorOf(process), redis: base.redis },
      openQueue: perRevision.open,
    }),
  };
  await Promise.all((await adoptModel(deps, config)).map(perRevision.open));
  const projection = follow("project", project(deps));
  // What dispatch cannot send is sent by the sweep, so it need not hold up the turns after it.
  follow("dispatch", dispatch(deps), 5);
  follow("erase", erase(deps), 20);
  const manageModels = manage(deps);
  follow("manage", manageModels, 1);
  const source = queueSource({
    ...{ name: "report", sqs, queueUrl: queues.reports.url, handler: report(deps), onError },
  });
  const sweepOpen = sweep(deps);
  const ticking = [
    bucket.notify(manifest(deps)),
    schedule(sweepEveryMs, () => invoke("sweep", sweepOpen, {}, 60_000), onError),
    schedule(sweepEveryMs, () => removeRetiredQueues(deps, perRevision, config.model), onError),
    schedule(manageEveryMs, () => invoke("manage", manageModels, {}, 60_000), onError),
  ];
  const { credential, doorUrl: webSocketUrl = "/" } = config;
  const routes = routesOf(deps);
  const lambda = await lambdaApi(
    { ...routes, ops: ops(deps), data: data(deps) },
    config.lambdaPort,
  );
  const gateway = await startGateway({
    ...{ host: config.host, port: config.port, pageDir: config.pageDir },
    ...{ routes, http: history(deps), api: completions(deps) },
    pageConfig: { webSocketUrl, apiUrl: "/api", credential },
  });
  // The queues are new and empty: marks that a job was sent are older than they are. The open turns
  // are known once the projection has seen all of the log.
  projection.caughtUp
    .then(() => invoke("sweep", sweepOpen, { ignoreMarkers: true }, 60_000))
    .catch(onError);

  return {
    ready: { url: gateway.url, queues },
    quiesce: gateway.quiesce,
    async stop() {
      await gateway.stop();
      await lambda.stop();
      await emptied(sqs, queues.reports.url);
      await Promise.all([source, followers, ...ticking].map((one) => one.stop()));
      sqs.destroy();
      await base.tracing?.flush(1_000);
      await closeDeps(base);
    },
  };
}

async function baseDeps(
  { host, port, model }: ControlPlaneConfig,
  { jobs, reports }: Record<"jobs" | "reports", QueuePair>,
) {
  const env = {
    ...process.env,
    AXON_CONNECTIONS_ENDPOINT: `http://${urlHost(host)}:${port}`,
    AXON_MODELS: JSON.stringify([{ ...model, queueUrl: jobs.url, default: true }]),
    AXON_REPORTS_QUEUE_URL: reports.url,
  };
  return { ...depsFromEnvironment(env), tracing: await openFunctionTracing(env) };
}

const lambdaApi = <Event>(
  functions: Readonly<Record<string, LambdaFunction<Event>>>,
  port: number,
) =>
  startLambdaApi(functions, {
    // Unknown where the credentials are not the stage's own.
    accessKeyId: process.env["AWS_ACCESS_KEY_ID"] ?? "",
    ...{ port, timeoutMs: socketLimits.integrationMs },
  });

async function provision(
  sqs: SQSClient,
  perRevision: RevisionQueues,
  { model }: ControlPlaneConfig,
) {
  const dynamoDb = new DynamoDBClient();
  const tableSchema = z.string().min(1);
  const table = tableSchema.parse(process.env["AXON_EVENTS_TABLE"]);
  const keyTable = tableSchema.parse(process.env["AXON_DATA_KEYS_TABLE"]);
  const [jobs, reports] = await Promise.all([
    perRevision.open(model.revision),
    createQueue(sqs, "reports", { fifo: true }),
    createEventTable(dynamoDb, table),
    createKeyTable(dynamoDb, keyTable),
  ]);
  dynamoDb.destroy();
  return { jobs, reports } satisfies Record<string, QueuePair>;
}

/** Who follows the log, and a log that shows them what is appended, so that they need not wait for their poll. */
function logFollowers(
  { log, database }: Pick<Deps, "log" | "database">,
  onError: (error: unknown) => void,
) {
  const followers: LogFollower[] = [];
  const offering: EventLog = {
    ...log,
    async append(...args) {
      const commit = await log.append(...args);
      for (const follower of followers) follower.offer(commit);
      return commit;
    },
  };
  return {
    log: offering,
    follow(name: string, handler: TableStreamFunction, maxAttempts?: number) {
      const follower = followLog({
        log,
        handle: tableStreamHandle(name, handler),
        checkpoint: postgresCheckpoint(database, name),
        onError,
        batchSize: followedAtOnce,
        ...(maxAttempts !== undefined && { maxAttempts }),
      });
      followers.push(follower);
      return follower;
    },
    async stop() {
      await Promise.all(followers.map((one) => one.stop()));
    },
  };
}

function routesOf(deps: Deps): SocketRoutes {
  const opening = connect(deps);
  return {
    $connect: (event: SocketEvent, context) => opening(event, context),
    $disconnect: disconnect(deps),
    $default: unrouted(deps),
    chat: chat(deps),
    cancel: cancel(deps),
    resume: resume(deps),
    observe: observe(deps),
    operate: operate(deps),
  };
}

/** Waits, a moment at most, until a queue that nobody writes to any more has been worked off. */
async function emptied(sqs: SQSClient, QueueUrl: string): Promise<void> {
  const deadline = AbortSignal.timeout(2_000);
  const names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"] as const;
  while (!deadline.aborted) {
    const { Attributes = {} } = await sqs.send(
      new GetQueueAttributesCommand({ QueueUrl, AttributeNames: [...names] }),
    );
    if (names.every((name) => Attributes[name] === "0")) return;
    await pause(25, deadline);
  }
}

const failed = (error: unknown): never => {
  console.error(error);
  process.exit(1);
};
process.on("unhandledRejection", failed);
// With the supervisor gone there is nobody left to stop us.
process.on("disconnect", () => process.exit(1));
const { ready, quiesce, stop } = await start().catch(failed);
process.on("message", (message) => {
  if (message === "quiesce") quiesce();
});
process.once("SIGTERM", () => {
  stop().then(() => process.exit(0), failed);
});
process.send?.({ type: "ready", ...ready });
