import { setTimeout as sleep } from "node:timers/promises";
import { GetQueueAttributesCommand } from "@aws-sdk/client-sqs";
import { z } from "zod";
import { relayShards, shardTurnsKey } from "../../events/redis-keys.ts";
import { eventually } from "../support/eventually.ts";
import type { Heard } from "./listener.ts";
import type { StageUnderFaults } from "./stage-under-faults.ts";

/** What has to be true once all is over. */
export interface Audit {
  problems: string[];
  /** Leaders that went on with another's turn. */
  takeovers: number;
  /** How long after the last answer everything was put away. */
  settledMs: number;
}

/**
 * A report that a killed control plane had in hand comes again after 30 s, and may do so twice; a
 * connection that is gone and has nothing to be told is forgotten after two minutes.
 */
const settleWithinMs = 180_000;
const lookMs = 250;

const turnEventsSchema = z.object({
  events: z.array(z.looseObject({ type: z.string(), text: z.string().optional() })),
});
const terminal = ["TurnCompleted", "TurnCancelled", "TurnFailed"];

export async function audit(stage: StageUnderFaults, heard: readonly Heard[]): Promise<Audit> {
  const since = performance.now();
  const problems: string[] = [];
  let left = ["it was not looked at"];
  const open = new Set(heard.map(({ turnId }) => turnId));
  const cleared = async () => {
    await sleep(lookMs);
    for (const turnId of open) if (await hasEnded(stage, turnId)) open.delete(turnId);
    left = [
      ...[...open].map((turnId) => `${turnId} has no end`),
      ...(await inQueues(stage)),
      ...(await inRedis(stage)),
    ];
    return left.length === 0;
  };
  await eventually(cleared, settleWithinMs).catch((error: unknown) => {
    problems.push(...left, ...(left.length === 0 ? [String(error)] : []));
  });
  const settledMs = performance.now() - since;
  let takeovers = 0;
  for (const turn of heard) {
    const events = await eventsOf(stage, turn.turnId);
    takeovers += events.filter(({ type }) => type === "TurnTakenOver").length;
    problems.push(...endingProblems(turn, events));
  }
  problems.push(...(await unheardTurns(stage, heard)), ...(await deadLetters(stage)));
  return { problems, takeovers, settledMs };
}

async function eventsOf(stage: StageUnderFaults, turnId: string) {
  const { body } = await stage.stage.get(`/api/turns/${turnId}/events`);
  return turnEventsSchema.parse(body).events;
}

/** Exactly one end, with the words that the client has read. */
function endingProblems(
  { turnId, text }: Heard,
  events: z.infer<typeof turnEventsSchema>["events"],
): string[] {
  const ends = events.filter(({ type }) => terminal.includes(type));
  const types = events.map(({ type }) => type).join(", ");
  if (ends.length !== 1 || !terminal.includes(events.at(-1)?.type ?? "")) {
    return [`${turnId} has ${ends.length} ends: ${types}`];
  }
  return ends[0]?.text === text ? [] : [`${turnId} is recorded with other words`];
}

async function hasEnded(stage: StageUnderFaults, turnId: string): Promise<boolean> {
  return (await eventsOf(stage, turnId)).some(({ type }) => terminal.includes(type));
}

const pageSchema = z.object({
  conversations: z.array(z.object({ id: z.string() })),
  next: z.string().nullish(),
});
const conversationSchema = z.object({
  turns: z.array(z.object({ id: z.string(), status: z.string() })),
});

/** A request that is sent again must not have become two turns; and the history knows every end. */
async function unheardTurns(stage: StageUnderFaults, heard: readonly Heard[]): Promise<string[]> {
  const known = new Set(heard.map(({ turnId }) => turnId));
  const problems: string[] = [];
  let before = "";
  do {
    const { body } = await stage.stage.get(`/api/conversations?limit=50${before}`);
    const { conversations, next } = pageSchema.parse(body);
    for (const { id } of conversations) {
      const found = await stage.stage.get(`/api/conversations/${id}`);
      for (const turn of conversationSchema.parse(found.body).turns) {
        if (!known.delete(turn.id)) problems.push(`nobody has asked for ${turn.id}`);
        if (turn.status !== "completed") problems.push(`${turn.id} is ${turn.status} in history`);
      }
    }
    before = next ? `&before=${encodeURIComponent(next)}` : "";
  } while (before !== "");
  return [...problems, ...[...known].map((turnId) => `${turnId} is not in the history`)];
}

const depths = [
  "ApproximateNumberOfMessages",
  "ApproximateNumberOfMessagesNotVisible",
  "ApproximateNumberOfMessagesDelayed",
] as const;

async function depthOf({ sqs }: StageUnderFaults, QueueUrl: string): Promise<number> {
  const { Attributes = {} } = await sqs.send(
    new GetQueueAttributesCommand({ QueueUrl, AttributeNames: [...depths] }),
  );
  return depths.reduce((sum, name) => sum + Number(Attributes[name] ?? 0), 0);
}

async function inQueues(stage: StageUnderFaults): Promise<string[]> {
  const { queues } = await stage.stage.file();
  const found: string[] = [];
  for (const name of ["jobs", "reports"] as const) {
    const depth = await depthOf(stage, queues[name].url);
    if (depth > 0) found.push(`${depth} messages in the queue of ${name}`);
  }
  return found;
}

async function deadLetters(stage: StageUnderFaults): Promise<string[]> {
  const { queues } = await stage.stage.file();
  const found: string[] = [];
  for (const name of ["jobs", "reports"] as const) {
    const depth = await depthOf(stage, queues[name].deadLetterUrl);
    if (depth > 0) found.push(`${depth} dead letters of ${name}`);
  }
  return found;
}

/** Leases, watchers and subscriptions that nobody needs any more. */
async function inRedis({ redis }: StageUnderFaults): Promise<string[]> {
  const found: string[] = [];
  for (const key of await redis.keys("leases:*")) {
    const turnIds = await redis.zrange(key, "0", "-1");
    if (turnIds.length > 0) found.push(`${key} has ${turnIds.join(", ")}`);
  }
  const shards = Array.from({ length: relayShards }, (_, shard) => shardTurnsKey(shard));
  const relayKeys = await redis.keys("relay:{relay_*}:turns");
  for (const key of [...shards, ...relayKeys]) {
    const turnIds = await redis.smembers(key);
    if (turnIds.length > 0) found.push(`${key} has ${turnIds.join(", ")}`);
  }
  for (const pattern of ["turn:*:watchers", "turn:*:job", "connection:*:turns"]) {
    const keys = await redis.keys(pattern);
    if (keys.length > 0) found.push(`${keys.length} keys like ${keys[0]}`);
  }
  const channels = (await redis.pubsub("CHANNELS", "turn:*")) as string[];
  if (channels.length > 0) found.push(`subscriptions to ${channels.join(", ")}`);
  return found;
}
