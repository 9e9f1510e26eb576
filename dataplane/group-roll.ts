import { z } from "zod";
import type { RedisClient } from "../events/redis-client.ts";
import { groupFollowersKey, groupLeadKey } from "../events/redis-keys.ts";

/**
 * The roll of a group that spans nodes, in Redis: its leader's epoch and state, and each follower's last
 * beat. Leader and followers run on different hosts and see each other nowhere else, unless by NCCL,
 * which may take ten minutes to notice a peer that is gone.
 */

/** A follower beats so often. */
export const beatMs = 1_000;
/** A follower that has not been heard of for this long is lost: two beats may be late, not three. */
export const silentMs = 2_500;
/** The leader looks so often. What a follower says of itself is known after this. */
export const lookMs = 250;

/** Long enough for an epoch to outlive the time between two groups of one name. */
const keepMs = 24 * 60 * 60_000;

export type LeadState = "opening" | "forming" | "ready" | "closed";

/** What a follower has said last. */
export interface Beat {
  epoch: number;
  /** Grows with each beat. */
  count: number;
  /** Why the follower's share of the engine is gone; undefined while it is alive. */
  gone?: string;
}

const beatPattern = /^(\d+) (\d+) (alive|gone (.*))$/s;
const leadReplySchema = z.array(z.string()).min(1);
const followReplySchema = z.tuple([
  z.coerce.number(),
  z.enum(["none", "forming", "ready", "closed"]),
]);

/** @returns the epoch that the group has now, and the last beat of each rank. */
export async function leadGroup(
  redis: RedisClient,
  groupId: string,
  { epoch, state }: { epoch: number; state: LeadState },
): Promise<{ epoch: number; beats: Map<number, Beat> }> {
  const keys = [groupLeadKey(groupId), groupFollowersKey(groupId)];
  const reply = leadReplySchema.parse(await redis.axonLeadGroup(...keys, epoch, state, keepMs));
  const beats = new Map<number, Beat>();
  for (let i = 1; i + 1 < reply.length; i += 2) {
    const beat = parseBeat(reply[i + 1] ?? "");
    if (beat !== undefined) beats.set(Number(reply[i]), beat);
  }
  return { epoch: Number(reply[0]), beats };
}

/** Beats for a rank. @returns who leads the group now. */
export async function followGroup(
  redis: RedisClient,
  groupId: string,
  { rank, beat }: { rank: number; beat: Beat },
): Promise<{ epoch: number; state: "none" | Exclude<LeadState, "opening"> }> {
  const { epoch, count, gone } = beat;
  const word = gone === undefined ? "alive" : `gone ${gone}`;
  const reply = await redis.axonFollowGroup(
    ...[groupLeadKey(groupId), groupFollowersKey(groupId)],
    ...[rank, epoch, `${epoch} ${count} ${word}`, keepMs],
  );
  const [leadEpoch, state] = followReplySchema.parse(reply);
  return { epoch: leadEpoch, state };
}

function parseBeat(text: string): Beat | undefined {
  const match = beatPattern.exec(text);
  if (match === null) return undefined;
  const beat = { epoch: Number(match[1]), count: Number(match[2]) };
  return match[3] === "alive" ? beat : { ...beat, gone: match[4] ?? "" };
}
