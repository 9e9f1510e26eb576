import { apiCors } from "../cluster/api-cors.ts";
import { externals } from "../cluster/bundling.ts";
import type { Deployment } from "../cluster/deployment.ts";
import { tracingVariables } from "../cluster/tracing.ts";
import type { Alarm } from "./alarms.ts";
import { type Need, needs, type Parts } from "./needs.ts";
import { reportTimeoutSeconds } from "./queues.ts";
import { isProduction, metricsNamespace, nameOf } from "./stage.ts";

export type Functions = ReturnType<typeof functions>["handlers"];
/** What further functions are made of: those of rollouts come after the cluster (rollout.ts). */
export type FunctionParts = Omit<ReturnType<typeof functions>, "handlers">;

/**
 * Each handler, and what it needs: nothing else is linked to it or allowed to it. They are the providers
 * that the end of each file of functions/ names, in the words of needs.ts.
 */
export function functions(deployment: Deployment, parts: Parts & { alarm: Alarm }) {
  const need = needs(deployment, parts);
  const { readLog, writeLog, redis, database, jobs, models, admission, rate, frames, keys } = need;
  const { readWords, writeWords, logStream, unprocessed } = need;
  // What sends jobs of turns by the log, whatever called it.
  const jobsFromLog = [writeLog, redis, jobs, database, models, admission];
  const make = maker(deployment, parts);
  const migrated = migration(make("migrate", [database], { timeout: "300 seconds", tolerated: 0 }));
  const after = (args: Options = {}): Options => ({ ...args, after: migrated });

  const handlers = {
    connect: make("connect", [readLog, redis, keys], { timeout: "10 seconds" }),
    disconnect: make("disconnect", [redis, frames], { timeout: "10 seconds" }),
    unrouted: make("unrouted", [frames], { timeout: "10 seconds" }),
    chat: make(
      "chat",
      [writeLog, writeWords, redis, jobs, database, models, admission, rate, frames],
      after(),
    ),
    resume: make("resume", [readLog, readWords, redis, frames]),
    cancel: make(
      "cancel",
      [writeLog, writeWords, redis, jobs, database, models, admission, frames],
      after(),
    ),
    ...operators(parts, need, make, after()),
    history: make("history", [keys, database, writeLog, readWords, models], after()),
    // It holds no connection to the database: as many of it run as answers are read.
    completions: make(
      "completions",
      [writeLog, writeWords, redis, jobs, models, admission, rate, keys],
      { timeout: "900 seconds", streams: true },
    ),
    dispatch: make(
      "dispatch",
      [...jobsFromLog, writeWords, logStream, unprocessed],
      after({ timeout: "60 seconds" }),
    ),
    ...keeping(parts, need, make, after),
    project: make(
      "project",
      [database, readLog, readWords, redis, logStream, unprocessed],
      after({ timeout: "60 seconds" }),
    ),
    report: make(
      "report",
      [...jobsFromLog, writeWords, need.reports],
      after({ timeout: `${reportTimeoutSeconds} seconds` }),
    ),
    sweep: make(
      "sweep",
      [...jobsFromLog, writeWords],
      // One at a time: a sweep that takes longer than a minute is not joined by the next one.
      after({ timeout: "300 seconds", tolerated: 0, ticks: true, ...oneAtATime() }),
    ),
  };
  return { handlers, need, make, migrated };
}

/** What erases, exports and rebuilds what is kept. */
function keeping(
  parts: Parts,
  need: ReturnType<typeof needs>,
  make: ReturnType<typeof maker>,
  after: (args: Options) => Options,
) {
  const { writeLog, eraseWords, redis, jobs, database, models, admission } = need;
  return {
    erase: make(
      "erase",
      [
        ...[writeLog, eraseWords, redis, jobs, database, models, admission],
        ...[need.logStream, need.unprocessed],
      ],
      after({ timeout: "300 seconds", tolerated: 0 }),
    ),
    // Nothing calls it but people, with the rights to.
    data: make(
      "data",
      [writeLog, readOrder(parts), eraseWords, redis, jobs, database, models, admission],
      after({ timeout: "900 seconds", tolerated: 0 }),
    ),
  };
}

/** What operators see and do over the WebSocket. */
function operators(
  parts: Parts,
  need: ReturnType<typeof needs>,
  make: ReturnType<typeof maker>,
  options: Options,
) {
  const { redis, database, models, operations, deadLetters, frames } = need;
  const seeing = [readOrder(parts), redis, database, models, operations, frames];
  return {
    observe: make("observe", [need.readLog, ...seeing], options),
    operate: make("operate", [need.writeLog, ...seeing, deadLetters], options),
  };
}

/** All of the log in its order, for rebuilds and for operators. */
export const readOrder = ({ log }: Pick<Parts, "log">): Need => ({
  permissions: [
    { actions: ["dynamodb:Query"], resources: [$interpolate`${log.table.arn}/index/*`] },
  ],
});

/** Production has it set apart; other stages may be in an account that has nothing to set apart. */
export const oneAtATime = (): Pick<Options, "reserved"> => (isProduction() ? { reserved: 1 } : {});

interface Options {
  /** 20 s: API Gateway waits 29 s, and `chat` counts on its predecessor being gone after 30 s. */
  timeout?: `${number} seconds`;
  /** So many at a time, set apart for it from the account's concurrency. */
  reserved?: number;
  /** Errors a minute before somebody is told. Functions that run once a minute have none to spare. */
  tolerated?: number;
  /** It is invoked by the clock: a tick that cannot be had within its minute is none. */
  ticks?: boolean;
  /** It has a URL of its own, which streams what it says for as long as the function runs. */
  streams?: boolean;
  /** Its code is replaced only after this. */
  after?: $util.Resource;
}

/** @returns what makes the function of functions/<name>.ts */
function maker(deployment: Deployment, { key, network, alarm }: Parts & { alarm: Alarm }) {
  return (name: string, needed: readonly Need[], options: Options = {}) => {
    const logical = name.charAt(0).toUpperCase() + name.slice(1);
    const { timeout = "20 seconds", reserved, tolerated = 5, ticks, streams, after } = options;
    const made = new sst.aws.Function(logical, {
      name: nameOf(name),
      handler: `functions/${name}.handler`,
      runtime: "nodejs24.x",
      architecture: "arm64",
      memory: "512 MB",
      timeout,
      link: needed.flatMap(({ link = [] }) => link),
      permissions: needed.flatMap(({ permissions = [] }) => permissions),
      environment: Object.assign(
        {
          NODE_OPTIONS: "--enable-source-maps",
          AXON_METRICS_NAMESPACE: metricsNamespace(),
          ...tracingVariables(deployment),
        },
        ...needed.map(environmentOf),
      ),
      vpc: {
        privateSubnets: network.vpc.privateSubnets,
        securityGroups: [network.groups.functions.id],
      },
      // The functions' own lines are JSON in either format; the Console's Issues read Lambda's as text.
      logging: { retention: "1 month", format: "text" },
      nodejs: {
        minify: true,
        // The map goes along, so that a stack trace in the log names lines of the sources.
        sourcemap: true,
        // What only some deployments need is a file of its own, which the others never load.
        splitting: true,
        esbuild: { external: externals },
      },
      ...(reserved !== undefined && { concurrency: { reserved } }),
      ...(ticks && { retries: 0 }),
      ...(streams && { url: streamUrl(), streaming: true }),
      transform: {
        eventInvokeConfig: { maximumEventAgeInSeconds: 60 },
        logGroup: { kmsKeyId: key.arn },
        // The component would let the whole account take the role on.
        role: {
          assumeRolePolicy: aws.iam.assumeRolePolicyForPrincipal({
            Service: "lambda.amazonaws.com",
          }),
        },
        function: (_args, opts) => {
          if (after !== undefined) opts.dependsOn = [after];
          return undefined;
        },
      },
    });
    watch(logical, made, { tolerated, reserved }, alarm);
    return made;
  };
}

/** Anybody may call it: the function checks the key of each request itself. */
function streamUrl(): NonNullable<sst.aws.FunctionArgs["url"]> {
  const { maxAgeSeconds, ...cors } = apiCors;
  return { authorization: "none", cors: { ...cors, maxAge: `${maxAgeSeconds} seconds` } };
}

const environmentOf = ({ environment = {} }: Need) => environment;

function watch(
  logical: string,
  made: sst.aws.Function,
  { tolerated, reserved }: { tolerated: number; reserved: number | undefined },
  alarm: Alarm,
): void {
  const dimensions = { FunctionName: made.name };
  alarm(`${logical}Errors`, {
    ...{ service: "Lambda", metric: "Errors", statistic: "Sum", dimensions },
    ...{ threshold: tolerated, minutes: 3 },
    description: `${logical} fails. Its log group tells why; what it was given comes again.`,
  });
  // One that runs alone is throttled while it runs, and misses nothing by it.
  if (reserved !== undefined) return;
  alarm(`${logical}Throttles`, {
    ...{ service: "Lambda", metric: "Throttles", statistic: "Sum", dimensions },
    ...{ threshold: 10, minutes: 3 },
    description: `${logical} may not run often enough: raise the account's concurrent executions.`,
  });
}

/**
 * Runs the migrations as part of the deployment, whenever the code of `migrate` has changed, its SQL
 * included. A migration that fails ends the deployment before the functions that count on it.
 */
function migration(migrate: sst.aws.Function): $util.Resource {
  return new aws.lambda.Invocation("Migration", {
    functionName: migrate.name,
    input: "{}",
    triggers: { code: migrate.nodes.function.s3Key.apply((key) => key ?? "") },
  });
}
