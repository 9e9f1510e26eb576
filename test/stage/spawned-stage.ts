import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { type Client, connect } from "../../client/client.ts";
import { identify } from "../../local/process-table.ts";
import { eventually } from "../support/eventually.ts";

const root = join(import.meta.dirname, "..", "..");

const queuePairSchema = z.object({ url: z.string(), deadLetterUrl: z.string() });
const stageFileSchema = z.looseObject({
  url: z.url(),
  credential: z.string(),
  queues: z.looseObject({
    endpoint: z.string(),
    jobs: queuePairSchema,
    reports: queuePairSchema,
  }),
  parts: z.array(
    z.looseObject({
      name: z.string(),
      address: z.string(),
      pid: z.number().optional(),
      groupId: z.string().optional(),
      ranks: z.array(z.object({ rank: z.number(), pid: z.number() })).optional(),
    }),
  ),
});
type StageFile = z.infer<typeof stageFileSchema>;

/** Keys that every stage of a test takes, beside the development key: two tenants. */
export const tenantKeys = { alice: "key-of-alice-0123", bob: "key-of-bob-4567" };

const apiKeys = Object.entries(tenantKeys).map(([tenantId, key]) => ({
  sha256: createHash("sha256").update(key).digest("hex"),
  tenantId,
  userId: `${tenantId}-user`,
}));

/** A stage as a user starts it: a process of its own, told by its files and its output. */
export interface SpawnedStage {
  dataDir: string;
  process: ChildProcess;
  output(): string;
  /** What stage.json says now. */
  file(): Promise<StageFile>;
  /** Every process of the stage, the supervisor first. */
  pids(): Promise<number[]>;
  client(key?: string): Promise<Client>;
  /** `GET /api…` as a tenant. */
  get(path: string, key?: string): Promise<{ status: number; body: unknown }>;
  exited: Promise<number | null>;
}

/** A folder for a stage's data, which PostgreSQL's own user can enter. */
export async function dataFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "axon-stage-"));
  await chmod(folder, 0o755);
  return folder;
}

export const removeFolder = (folder: string): Promise<void> =>
  rm(folder, { recursive: true, force: true, maxRetries: 5 });

/** Starts `local/main.ts` on any free port. Resolves when it says that it is ready. */
export async function spawnStage(
  dataDir: string,
  options: { args?: string[]; env?: Record<string, string> } = {},
): Promise<SpawnedStage> {
  const stage = launch(dataDir, options);
  await Promise.race([
    eventually(() => /ready in/.test(stage.output()), 60_000),
    stage.exited.then((code) => {
      throw new Error(`The stage ended with ${code}: ${stage.output()}`);
    }),
  ]);
  return stage;
}

/** Starts `local/main.ts` and does not wait. */
export function launch(
  dataDir: string,
  { args = [], env = {} }: { args?: string[]; env?: Record<string, string> } = {},
): SpawnedStage {
  const child = spawn(
    process.execPath,
    [join(root, "local", "main.ts"), "--data", dataDir, ...args],
    {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, PORT: "0", AXON_API_KEYS: JSON.stringify(apiKeys), ...env },
    },
  );
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      output += String(chunk);
    });
  }
  const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const file = async () => {
    const text = await readFile(join(dataDir, "stage.json"), "utf8");
    return stageFileSchema.parse(JSON.parse(text));
  };
  return {
    ...{ dataDir, process: child, output: () => output, file, exited },
    async pids() {
      const { parts } = await file();
      const pids = parts.flatMap(({ pid, ranks = [] }) => [pid, ...ranks.map((rank) => rank.pid)]);
      return [...new Set([child.pid, ...pids])].filter((pid) => pid !== undefined);
    },
    async client(key) {
      const { url, credential } = await file();
      return connect({ url: url.replace("http", "ws"), credential: key ?? credential });
    },
    async get(path, key) {
      const { url, credential } = await file();
      const headers = { authorization: `Bearer ${key ?? credential}` };
      const response = await fetch(url + path, { headers });
      return { status: response.status, body: await response.json() };
    },
  };
}

/** The process of a part, by its name. @throws where there is none: 0 would be the test's own process group. */
export async function pidOf(stage: SpawnedStage, name: string): Promise<number> {
  const { parts } = await stage.file();
  const pid = parts.find((part) => part.name === name)?.pid;
  if (pid === undefined) throw new Error(`The stage has no process "${name}".`);
  return pid;
}

/** The leader that runs a turn, once its claim is in the log. */
export function leaderOf(stage: SpawnedStage, turnId: string): Promise<number> {
  return eventually(async () => {
    const { body } = await stage.get(`/api/turns/${turnId}/events`);
    const { events } = body as { events: { groupId?: string }[] };
    const groupId = events.findLast((event) => event.groupId !== undefined)?.groupId;
    if (groupId === undefined) return undefined;
    return (await stage.file()).parts.find((part) => part.groupId === groupId)?.pid;
  });
}

/** Ctrl-C, and the wait for its end. */
export async function interrupt(stage: SpawnedStage): Promise<number | null> {
  stage.process.kill("SIGINT");
  return stage.exited;
}

export const isRunning = (pid: number): boolean => identify(pid) !== undefined;
