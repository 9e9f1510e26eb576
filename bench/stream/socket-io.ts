import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { Redis } from "ioredis";

/*
 * The peer: Socket.IO with its Redis Streams adapter. It is put below .axon/ and never becomes a package of
 * the project. One server emits, another one has the connections, as a leader and a relay do.
 */
const packages = ["socket.io@4.8.4", "@socket.io/redis-streams-adapter@0.3.1"];
export const peerName = "Socket.IO 4.8.4, Redis Streams adapter 0.3.1";

/** Installs the peer, if need be. @returns where; undefined where it cannot be had. */
export function installSocketIo(benchDir: string): string | undefined {
  const folder = join(benchDir, "socket.io-4.8.4");
  // npm writes this file when all packages are in their places.
  if (existsSync(join(folder, "node_modules", ".package-lock.json"))) return folder;
  mkdirSync(folder, { recursive: true });
  const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
  const { status } = spawnSync("npm", ["install", "--prefix", folder, ...flags, ...packages], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  return status === 0 ? folder : undefined;
}

interface Io {
  to(room: string): { emit(event: string, ...args: unknown[]): void };
  on(event: "connection", listener: (socket: PeerSocket) => void): void;
}
interface PeerSocket {
  on(event: string, listener: (turnId: string) => void): void;
  join(room: string): void;
}

/** A Socket.IO server on any port, joined with the others by Redis. */
export async function startSocketIo(
  folder: string,
  redisUrl: string,
): Promise<{ io: Io; url: string }> {
  const require = createRequire(import.meta.url);
  // By paths, since they are no packages of the project.
  const modules = join(folder, "node_modules");
  const { Server } = require(join(modules, "socket.io")) as {
    Server: new (...args: unknown[]) => Io;
  };
  const { createAdapter } = require(join(modules, "@socket.io", "redis-streams-adapter")) as {
    createAdapter: (redis: Redis) => unknown;
  };
  const http = createServer();
  const io = new Server(http, {
    adapter: createAdapter(new Redis(redisUrl)),
    transports: ["websocket"],
    perMessageDeflate: false,
  });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", 1_024, resolve));
  return { io, url: `ws://127.0.0.1:${(http.address() as AddressInfo).port}` };
}
