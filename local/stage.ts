import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { z } from "zod";
import { startAwsEmulators } from "./aws-emulators.ts";
import { type ChildCommand, startChild } from "./child-process.ts";
import type { RevisionFile } from "./cluster/revisions.ts";
import { type StageGroups, stageGroups, writeRevision } from "./cluster/stage-groups.ts";
import { answerGroups } from "./cluster/supervisor-link.ts";
import type { ControlPlaneConfig } from "./control-plane-config.ts";
import { type DataFolder, openDataFolder } from "./data-folder.ts";
import { stageEngine } from "./engine.ts";
import { urlHost } from "./gateway-access.ts";
import { serveTargets } from "./metrics-targets.ts";
import type { StageModel } from "./model.ts";
import { freePort, StageError, usablePort } from "./part.ts";
import { root } from "./paths.ts";
import { startPostgres } from "./postgres.ts";
import { startRedis } from "./redis.ts";
import { createRoster, type Roster, type StagePart } from "./roster.ts";
import {
  developmentKey,
  type StageApiKey,
  stageApiKeys,
  stageEnvironment,
} from "./stage-environment.ts";

export interface StageOptions {
  dataDir: string;
  /** 0 for any that is free. */
  port: number;
  /** 127.0.0.1 unless others are to reach it. */
  host?: string;
  modelDir?: string;
  /** Tensor-parallel size: ranks of a group. */
  ranks?: number;
  /** Groups that serve the model when it is new here, each with a copy of it; later the log knows. */
  groups?: number;
  /** Groups that there is room for, of all revisions. */
  room?: number;
  /** Revisions that can be rolled out, by name. */
  revisions?: Readonly<Record<string, RevisionFile>>;
  relays?: number;
  /** The first relay terminates WebSockets itself, and the page connects there. */
  frontDoor?: boolean;
  /** Relays and groups serve their metrics, and GET /targets at this port says where; 0 for any that is free. */
  metricsPort?: number;
  /** Added to the environment of the parts. */
  env?: Readonly<Record<string, string>>;
  /** Keys beside the development key and those of AXON_API_KEYS. */
  apiKeys?: readonly StageApiKey[];
  /** Hears what is done about parts that die. */
  note?: (line: string) => void;
}

export interface Stage {
  url: string;
  /** A key that opens it. */
  credential: string;
  model: StageModel;
  /** Where Prometheus finds what to read, if it is to. */
  targetsUrl: string | undefined;
  /** As they are now: a part that was started again has a new pid. */
  parts(): StagePart[];
  /** Stops everything in order; resolves when no process is left. */
  stop(): Promise<void>;
}

const bundledModelDir = join(root, "models", "axon-guide");
const controlPlaneScript = new URL("./control-plane.ts", import.meta.url);
const relayScript = new URL("../dataplane/relay.ts", import.meta.url);
const pageDir = join(root, "web", "dist");

/**
 * Starts Axon on this machine, each part a process of its own but for the emulators of SQS and
 * DynamoDB, which are a thread of this one. Parts that die are started again.
 * @throws StageError, after everything that had started was stopped.
 */
export async function startStage(options: StageOptions): Promise<Stage> {
  const modelDir = resolve(options.modelDir ?? bundledModelDir);
  const engineEnv = { ...process.env, ...options.env };
  const engine = await stageEngine(modelDir, options.ranks ?? 2, engineEnv);
  const { model } = engine;
  const apiKeys = stageApiKeys(options.apiKeys ?? []);
  if (!existsSync(join(pageDir, "index.html"))) {
    throw new StageError("page_missing", "The page is not built. Run: npm run build:web");
  }
  const folder = await openDataFolder(options.dataDir);
  const host = options.host ?? "127.0.0.1";
  let port = options.port;
  let queues: StageQueues | undefined;
  let functions: StageFunctions | undefined;
  const announce = () => {
    const url = `http://${urlHost(host)}:${port}`;
    const parts = roster.parts();
    folder.announce({ url, credential: developmentKey, queues, functions, parts });
  };
  const roster = createRoster(folder, announce, options.note ?? (() => undefined));
  const groups = stageGroups({
    ...{ folder, roster, engine, modelDir },
    ...{ ranks: options.ranks ?? 2, groups: options.groups ?? 1, room: options.room ?? usualRoom },
  });
  const context: Context = { options, apiKeys, folder, roster, groups };
  let quiesce = () => {};
  let metrics: Awaited<ReturnType<typeof serveMetrics>> | undefined;
  const stop = async () => {
    quiesce();
    await metrics?.stop();
    // The group first: what it still says has to reach the connections and the log.
    await groups.stop();
    await Promise.all(numbered("relay", options.relays).map(roster.stop));
    await roster.stop("control plane");
    await Promise.all(["redis", "postgresql", "emulators"].map(roster.stop));
    folder.release();
  };
  try {
    for (const [name, file] of Object.entries(options.revisions ?? {})) {
      writeRevision(folder.path, name, file);
    }
    port = await usablePort(host, port);
    const { env, emulated } = await startStores(context);
    const lambdaPort = await freePort();
    functions = { endpoint: `http://127.0.0.1:${lambdaPort}`, emulated };
    const doorPort = options.frontDoor ? await freePort() : undefined;
    const plane = await startControlPlane(context, env, {
      ...{ host, port, pageDir, model, lambdaPort, credential: developmentKey },
      ...{ dataDir: folder.path, groups: options.groups ?? 1 },
      ...(doorPort !== undefined && { doorUrl: `http://${urlHost(host)}:${doorPort}` }),
    });
    quiesce = plane.quiesce;
    queues = { endpoint: env["AWS_ENDPOINT_URL_SQS"], emulated, ...plane.queues };
    metrics = await serveMetrics(options, roster);
    const planeEnv = { ...env, ...plane.env, ...metrics.env };
    groups.open(planeEnv);
    await allStarted([
      startRelays(context, planeEnv, doorEnvironment(host, doorPort, lambdaPort)),
      groups.ready(),
    ]);
    announce();
    const opened = { url: plane.url, credential: developmentKey, targetsUrl: metrics.url };
    return { ...opened, model, parts: roster.parts, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Where they are wanted: who tells where metrics are, and what makes the processes serve them. */
async function serveMetrics({ metricsPort }: StageOptions, roster: Roster) {
  if (metricsPort === undefined) return { env: {}, url: undefined, stop: async () => {} };
  const targets = await serveTargets(metricsPort, roster.parts);
  return { ...targets, env: { AXON_PROBES: "127.0.0.1:0" } };
}

/** Where the command line finds the stage's queues. */
interface StageQueues extends z.infer<typeof queuesSchema> {
  /** SQS's. */
  endpoint: string | undefined;
  /** It takes any credentials. */
  emulated: boolean;
}

/** Where the command line invokes the stage's functions by name. */
type StageFunctions = Pick<StageQueues, "endpoint" | "emulated">;

interface Context {
  options: StageOptions;
  apiKeys: StageApiKey[];
  folder: DataFolder;
  roster: Roster;
  groups: StageGroups;
}

/** Enough for a rollout of a few groups, beside those that serve. */
const usualRoom = 8;

/** Started side by side. @returns the environment of everything that uses them. */
async function startStores({ options, apiKeys, folder, roster }: Context) {
  const [redisPort, postgresPort, sqsPort, dynamoDbPort] = await Promise.all([
    ...[freePort(), freePort(), freePort(), freePort()],
  ]);
  const portOption = (port: number | undefined) => (port === undefined ? {} : { port });
  const results = await Promise.allSettled([
    roster.keep({
      name: "redis",
      start: () =>
        startRedis({
          dataDir: folder.at("redis"),
          logFile: folder.logFile("redis"),
          persistent: true,
          ...portOption(redisPort),
        }),
      describe: ({ url, pid }) => [{ name: "redis", address: withoutSecret(url), pid }],
    }),
    roster.keep({
      name: "postgresql",
      start: () =>
        startPostgres({
          dataDir: folder.at("postgres"),
          logFile: folder.logFile("postgres"),
          durable: true,
          ...portOption(postgresPort),
        }),
      describe: ({ url, pid }) => [{ name: "postgresql", address: withoutSecret(url), pid }],
    }),
    roster.keep({
      name: "emulators",
      start: () =>
        startAwsEmulators({
          dynamoDbDir: folder.at("dynamodb"),
          ...(sqsPort !== undefined && { sqsPort }),
          ...(dynamoDbPort !== undefined && { dynamoDbPort }),
        }),
      describe: ({ sqs, dynamoDb }) => [
        { name: "sqs", address: sqs.url, pid: sqs.pid },
        { name: "dynamodb", address: dynamoDb.url, pid: dynamoDb.pid },
      ],
      // The queues are gone with them; the control plane makes new ones when it starts.
      restarted: () => killPart(roster, "control plane"),
    }),
  ]);
  const [redis, postgres, emulators] = results;
  if (redis.status === "rejected") throw redis.reason;
  if (postgres.status === "rejected") throw postgres.reason;
  if (emulators.status === "rejected") throw emulators.reason;
  const { sqs, dynamoDb } = emulators.value.current();
  const stores = {
    redisUrl: redis.value.current().url,
    databaseUrl: postgres.value.current().url,
    ...{ sqsUrl: sqs.url, dynamoDbUrl: dynamoDb.url },
    emulated: sqs.pid !== undefined && dynamoDb.pid !== undefined,
  };
  const env: NodeJS.ProcessEnv = { ...stageEnvironment(stores, apiKeys), ...options.env };
  return { env, emulated: stores.emulated };
}

const queuePairSchema = z.object({ url: z.string(), deadLetterUrl: z.string() });
const queuesSchema = z.object({ jobs: queuePairSchema, reports: queuePairSchema });
const relaySchema = z.looseObject({ relayId: z.string(), probes: z.string().optional() });
const planeSchema = z.looseObject({ url: z.string(), queues: queuesSchema });

async function startControlPlane(
  { folder, roster, groups }: Context,
  env: NodeJS.ProcessEnv,
  config: ControlPlaneConfig,
) {
  const plane = await roster.keep({
    name: "control plane",
    start: () =>
      startChild({
        ...{ name: "control plane", script: controlPlaneScript },
        env: { ...env, AXON_STAGE: JSON.stringify(config) },
        logFile: folder.logFile("control-plane"),
        heard: (message, { tell }) => answerGroups(groups.supervisor, message, tell),
        ...{ readyWithinMs: 60_000, stopWithinMs: 10_000 },
      }),
    describe: ({ pid, details }) => [
      { name: "control plane", address: planeSchema.parse(details).url, pid },
    ],
  });
  const { url, queues } = planeSchema.parse(plane.current().details);
  return {
    ...{ url, queues },
    quiesce: () => plane.current().tell("quiesce"),
    env: {
      AXON_CONNECTIONS_ENDPOINT: url,
      AXON_JOBS_QUEUE_URL: queues.jobs.url,
      AXON_JOBS_DEAD_QUEUE_URL: queues.jobs.deadLetterUrl,
      AXON_REPORTS_QUEUE_URL: queues.reports.url,
      AXON_REVISION: config.model.revision,
    },
  };
}

/** "relay", "relay 2", "relay 3" … */
const numbered = (name: string, count = 1): string[] =>
  Array.from({ length: count }, (_, i) => (i === 0 ? name : `${name} ${i + 1}`));

const command = ({ folder }: Context, name: string, script: URL, env: NodeJS.ProcessEnv) =>
  ({
    ...{ name, script, env, logFile: folder.logFile(name.replace(" ", "-")) },
    ...{ readyWithinMs: 120_000, stopWithinMs: 15_000 },
  }) satisfies ChildCommand;

/** What makes a relay open a door of its own, with the control plane's functions behind it. */
function doorEnvironment(host: string, port: number | undefined, lambdaPort: number) {
  if (port === undefined) return {};
  const names = [
    "$connect",
    "$disconnect",
    "$default",
    "chat",
    "cancel",
    "resume",
    "observe",
    "operate",
  ];
  return {
    RELAY_LISTEN: `${host}:${port}`,
    AXON_FUNCTIONS: JSON.stringify(Object.fromEntries(names.map((name) => [name, name]))),
    AWS_ENDPOINT_URL_LAMBDA: `http://127.0.0.1:${lambdaPort}`,
  };
}

/** Only the first has the door: two cannot listen at one address. */
async function startRelays(context: Context, env: NodeJS.ProcessEnv, door: NodeJS.ProcessEnv) {
  const names = numbered("relay", context.options.relays);
  await allStarted(
    names.map((name, i) =>
      context.roster.keep({
        name,
        start: () =>
          startChild(command(context, name, relayScript, { ...env, ...(i === 0 && door) })),
        describe: ({ pid, details }) => [relayPart(name, pid, details)],
      }),
    ),
  );
}

function relayPart(name: string, pid: number, details: Record<string, unknown>): StagePart {
  const { relayId, probes } = relaySchema.parse(details);
  return { name, address: relayId, pid, ...(probes !== undefined && { metricsUrl: probes }) };
}

/** @throws the first failure, once nothing is starting any more. */
async function allStarted(starting: Promise<unknown>[]): Promise<void> {
  const results = await Promise.allSettled(starting);
  for (const result of results) if (result.status === "rejected") throw result.reason;
}

function killPart(roster: Roster, name: string): void {
  const pid = roster.parts().find((part) => part.name === name)?.pid;
  if (pid !== undefined) process.kill(pid, "SIGKILL");
}

/** A store that the environment names may have its password in its address. */
function withoutSecret(address: string): string {
  const url = new URL(address);
  url.username = "";
  url.password = "";
  return url.href;
}
