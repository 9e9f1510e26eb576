import { turnJobKey, turnTokensKey } from "../../../events/redis-keys.ts";
import type { Deps } from "../deps.ts";

/**
 * Deletes the tokens and the job of a turn. What says how far it has got stays for its time: it holds no
 * words, and keeps a job that is still in a queue from being run again.
 */
export async function forgetTurn({ redis }: Pick<Deps, "redis">, turnId: string): Promise<void> {
  await redis.unlink(turnTokensKey(turnId), turnJobKey(turnId));
}
