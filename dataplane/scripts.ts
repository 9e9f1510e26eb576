import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Result } from "ioredis";
import type { RedisClient } from "../events/redis-client.ts";

/** The commands that the Lua scripts add to a Redis client; each script explains itself. */
declare module "ioredis" {
  interface RedisCommander<Context> {
    axonClaim(...keysAndArgs: (string | number)[]): Result<unknown, Context>;
    axonAppend(...keysAndArgs: (string | number)[]): Result<unknown, Context>;
    axonRenew(...keysAndArgs: (string | number)[]): Result<unknown, Context>;
    axonSeal(...keysAndArgs: (string | number)[]): Result<unknown, Context>;
    axonRestore(...keysAndArgs: (string | number)[]): Result<unknown, Context>;
    axonNoteLeases(...keysAndArgs: (string | number)[]): Result<unknown, Context>;
    axonExpiredLeases(...keysAndArgs: (string | number)[]): Result<unknown, Context>;
    axonNoteProgress(...keysAndArgs: (string | number)[]): Result<unknown, Context>;
    axonKeepLease(...keysAndArgs: (string | number)[]): Result<unknown, Context>;
    axonLeadGroup(...keysAndArgs: (string | number)[]): Result<unknown, Context>;
    axonFollowGroup(...keysAndArgs: (string | number)[]): Result<unknown, Context>;
  }
}

const scripts = [
  { command: "axonClaim", file: "claim.lua", numberOfKeys: 3 },
  { command: "axonAppend", file: "append.lua", numberOfKeys: 2 },
  { command: "axonRestore", file: "restore.lua", numberOfKeys: 3 },
  { command: "axonRenew", file: "renew.lua", numberOfKeys: 3 },
  { command: "axonSeal", file: "seal.lua", numberOfKeys: 3 },
  { command: "axonNoteLeases", file: "note-leases.lua", numberOfKeys: 1 },
  { command: "axonExpiredLeases", file: "expired-leases.lua", numberOfKeys: 1 },
  { command: "axonNoteProgress", file: "note-progress.lua", numberOfKeys: 1 },
  { command: "axonKeepLease", file: "keep-lease.lua", numberOfKeys: 1 },
  { command: "axonLeadGroup", file: "lead-group.lua", numberOfKeys: 2 },
  { command: "axonFollowGroup", file: "follow-group.lua", numberOfKeys: 2 },
];

/** Teaches the client the scripts. It sends them by hash, and by text where Redis lacks them. */
export function defineScripts(redis: RedisClient): void {
  for (const { command, file, numberOfKeys } of scripts) {
    const lua = readFileSync(join(import.meta.dirname, "scripts", file), "utf8");
    redis.defineCommand(command, { numberOfKeys, lua });
  }
}
