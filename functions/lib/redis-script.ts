import { createHash } from "node:crypto";
import type { RedisClient } from "../../events/redis-client.ts";

const hashes = new Map<string, string>();

/** Runs a Lua script, by its hash where Redis knows it, and by its text the first time. */
export async function runScript(
  redis: RedisClient,
  lua: string,
  keys: readonly string[],
  args: readonly (string | number)[],
): Promise<unknown> {
  const hash = hashes.get(lua) ?? createHash("sha1").update(lua).digest("hex");
  hashes.set(lua, hash);
  try {
    return await redis.evalsha(hash, keys.length, ...keys, ...args);
  } catch (error) {
    if (!(error instanceof Error && error.message.startsWith("NOSCRIPT"))) throw error;
    return redis.eval(lua, keys.length, ...keys, ...args);
  }
}
