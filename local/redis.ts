import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { connect } from "node:net";
import { delimiter, join } from "node:path";
import { externalPart, freePort, type RunningPart, StageError } from "./part.ts";
import { root } from "./paths.ts";
import { startServer } from "./server-process.ts";

export interface RedisOptions {
  dataDir: string;
  logFile: string;
  /** Writes every command to disk, synced each second. Off, nothing is kept. */
  persistent: boolean;
  /** Logical databases; Redis's own default is 16. */
  databases?: number;
  port?: number;
}

/**
 * Redis (or Valkey) on 127.0.0.1; the one that REDIS_URL names, where it is set.
 * @throws StageError redis_missing | part_failed
 */
export async function startRedis(options: RedisOptions): Promise<RunningPart> {
  const external = process.env["REDIS_URL"];
  if (external !== undefined) return externalPart(external);
  const binary = findRedis();
  mkdirSync(options.dataDir, { recursive: true });
  const port = options.port ?? (await freePort());
  const server = await startServer({
    name: "Redis",
    file: binary.file,
    env: binary.env,
    args: [
      ...["--port", String(port), "--bind", "127.0.0.1", "--dir", options.dataDir],
      ...["--databases", String(options.databases ?? 16), "--save", "", "--daemonize", "no"],
      ...["--appendonly", options.persistent ? "yes" : "no", "--appendfsync", "everysec"],
    ],
    logFile: options.logFile,
    stopSignal: "SIGTERM",
    isReady: () => answersPing(port),
    readyWithinMs: 30_000,
  });
  return { ...server, url: `redis://127.0.0.1:${port}` };
}

export interface RedisBinary {
  file: string;
  env: NodeJS.ProcessEnv;
}

/** Where the installer unpacks Debian's packages when it may not install them. */
const unpacked = join(root, ".axon", "packages", "usr");

/** @throws StageError redis_missing */
export function findRedis(): RedisBinary {
  const names = ["redis-server", "valkey-server"];
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    for (const name of names) {
      if (existsSync(join(folder, name))) return { file: join(folder, name), env: {} };
    }
  }
  const file = join(unpacked, "bin", "redis-server");
  if (existsSync(file)) return { file, env: { LD_LIBRARY_PATH: libraryFolders() } };
  throw new StageError(
    "redis_missing",
    "There is no Redis. Install one (Debian, Ubuntu: apt-get install redis-server), " +
      "or name a running one with REDIS_URL=redis://host:6379.",
  );
}

/** Debian puts libraries in a folder named after the machine, as in lib/x86_64-linux-gnu. */
function libraryFolders(): string {
  const lib = join(unpacked, "lib");
  const machines = readdirSync(lib).filter((name) => name.includes("-linux-"));
  return [...machines.map((name) => join(lib, name)), lib].join(delimiter);
}

/** A server that still reads its file answers -LOADING, which is no PONG. */
function answersPing(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write("PING\r\n"));
    const answer = (ready: boolean) => {
      socket.destroy();
      resolve(ready);
    };
    socket.setTimeout(1_000, () => answer(false));
    socket.once("error", () => answer(false));
    socket.once("data", (data) => answer(data.toString().startsWith("+PONG")));
  });
}
