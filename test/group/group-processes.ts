import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { eventually } from "../support/eventually.ts";
import { awsClientConfig, freshQueue, freshRedis, parts } from "../support/parts.ts";

/** A group that spans nodes, as real processes on this machine: a leader's worker and followers. */

const root = join(import.meta.dirname, "..", "..");

/** A process, and what it has logged. */
export interface Running {
  child: ChildProcess;
  pid: number;
  output: () => string;
  /** Resolves with its exit code. */
  ended: Promise<number | null>;
}

function run(
  command: string,
  args: string[],
  options: { env?: NodeJS.ProcessEnv; argv0?: string },
) {
  const child = spawn(command, args, options);
  onTestFinished(() => void child.kill("SIGKILL"));
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (text) => {
      output += text;
    });
  }
  const ended = new Promise<number | null>((resolve) => child.on("exit", resolve));
  return { child, pid: child.pid ?? 0, output: () => output, ended };
}

/** Runs a program of the repository by its path and arguments. */
export function startProgram(args: string[], env: NodeJS.ProcessEnv): Running {
  const [program = "", ...rest] = args;
  return run(process.execPath, [join(root, program), ...rest], { env: { ...process.env, ...env } });
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  return typeof address === "object" ? (address?.port ?? 0) : 0;
}

export interface GroupSettings {
  redisUrl: string;
  groupId: string;
}

export async function groupSettings(): Promise<GroupSettings> {
  return { redisUrl: await freshRedis(), groupId: `axon-test-${randomBytes(4).toString("hex")}-0` };
}

/** Stands for vLLM on a follower's node: a process that calls itself one of its workers. */
export function startEngineProcess(name: string): Running {
  return run("sleep", ["600"], { argv0: name });
}

export function startFollower(
  { redisUrl, groupId }: GroupSettings,
  { rank, engine, ...env }: { rank: number; engine: string } & Record<string, string | number>,
): Running {
  const variables = Object.entries(env).map(([name, value]) => [name, String(value)]);
  return run(process.execPath, [join(root, "dataplane", "follower.ts")], {
    env: {
      ...process.env,
      REDIS_URL: redisUrl,
      AXON_GROUP_ID: groupId,
      AXON_RANK: String(rank),
      AXON_WATCH: `^${engine}`,
      ...Object.fromEntries(variables),
    },
  });
}

/** The leader's worker with the bundled model, which needs no follower to compute. */
export async function startLeader(
  { redisUrl, groupId }: GroupSettings,
  env: Record<string, string> = {},
): Promise<Running & { probes: () => Promise<string> }> {
  const jobs = await freshQueue();
  const reports = await freshQueue({ fifo: true });
  const { credentials } = awsClientConfig("sqs");
  const leader = run(process.execPath, [join(root, "dataplane", "worker.ts")], {
    env: {
      ...process.env,
      REDIS_URL: redisUrl,
      AXON_MODEL_DIR: join(root, "models", "axon-guide"),
      AXON_REVISION: "test",
      AXON_TP: "1",
      AXON_GROUP_ID: groupId,
      AXON_FOLLOWERS: "1",
      AXON_PROBES: "127.0.0.1:0",
      AXON_JOBS_QUEUE_URL: jobs.url,
      AXON_JOBS_DEAD_QUEUE_URL: jobs.deadLetterUrl,
      AXON_REPORTS_QUEUE_URL: reports.url,
      AWS_REGION: "us-east-1",
      AWS_ENDPOINT_URL_SQS: parts().sqsEndpoint,
      AWS_ACCESS_KEY_ID: credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
      ...env,
    },
  });
  const probes = () =>
    eventually(() => /"probes":"(http[^"]+)"/.exec(leader.output())?.[1], 20_000);
  return { ...leader, probes };
}

/** @returns status and body of a probe. */
export async function probe(url: string): Promise<{ status: number; body: string }> {
  const response = await fetch(url, { headers: { connection: "close" } });
  return { status: response.status, body: (await response.text()).trim() };
}
