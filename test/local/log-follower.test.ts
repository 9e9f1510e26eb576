import { setImmediate as turnOfLoop } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import type { DomainEvent } from "../../events/event-catalog.ts";
import { type Commit, logShards, shardOf } from "../../events/event-log.ts";
import { memoryEventLog } from "../../events/event-log-memory.ts";
import { positionAt, positionSource } from "../../events/ids.ts";
import {
  type CheckpointStore,
  type FollowerOptions,
  followLog,
  type LogFollower,
  type Positions,
} from "../../local/log-follower.ts";
import { eventually } from "../support/eventually.ts";

const followers: LogFollower[] = [];
afterEach(async () => {
  await Promise.all(followers.splice(0).map((follower) => follower.stop()));
});

const events = (conversationId: string): DomainEvent[] => [
  {
    ...{
      type: "ConversationStarted",
      version: 1,
      at: 1,
      conversationId,
      tenantId: "t",
      title: "x",
    },
  },
];

function memoryCheckpoint(): CheckpointStore & { positions: Positions } {
  const store = {
    positions: {} as Positions,
    load: async () => store.positions,
    save: async (positions: Positions) => {
      store.positions = positions;
    },
  };
  return store;
}

/** A follower that notes the streams and versions it was given. */
function follow(options: Partial<FollowerOptions> & Pick<FollowerOptions, "log">) {
  const seen: string[] = [];
  const errors: unknown[] = [];
  const follower = followLog({
    handle: async (commits) => {
      seen.push(...commits.map(({ stream, version }) => `${stream}@${version}`));
      return commits.length;
    },
    checkpoint: memoryCheckpoint(),
    onError: (error) => errors.push(error),
    pollMs: 20,
    ...options,
  });
  followers.push(follower);
  return { follower, seen, errors };
}

const streamsOfOneShard = Array.from({ length: 100 }, (_, i) => `conversation/c${i}`).filter(
  (stream) => shardOf(stream) === 0,
);

test("everything in the log is handled once, each stream in its order, over many pages", async () => {
  const log = memoryEventLog();
  const expected: string[] = [];
  for (let version = 1; version <= 5; version++) {
    for (let i = 0; i < 20; i++) {
      await log.append(`conversation/c${i}`, version - 1, events(`c${i}`));
      expected.push(`conversation/c${i}@${version}`);
    }
  }
  const { follower, seen } = follow({ log, batchSize: 7 });
  await follower.caughtUp;
  expect([...seen].sort()).toEqual([...expected].sort());
  const ofOne = seen.filter((line) => line.startsWith("conversation/c3@"));
  expect(ofOne).toEqual([1, 2, 3, 4, 5].map((version) => `conversation/c3@${version}`));
});

test("what is offered is handled at once, and not again when it is read", async () => {
  const log = memoryEventLog();
  let reads = 0;
  const counting = {
    readShard: (...args: Parameters<typeof log.readShard>) => {
      reads++;
      return log.readShard(...args);
    },
  };
  const slow = follow({ log: counting, pollMs: 60_000 });
  await slow.follower.caughtUp;
  slow.follower.offer(await log.append("conversation/c1", 0, events("c1")));
  await eventually(() => slow.seen.length === 1);
  expect(reads).toBe(logShards);

  const quick = follow({ log: counting });
  quick.follower.offer(await log.append("conversation/c1", 1, events("c1")));
  const before = reads;
  await eventually(() => reads > before + 5 * logShards);
  expect(quick.seen).toEqual(["conversation/c1@1", "conversation/c1@2"]);
});

test("a commit that shows up late, below what was handled, is still handled", async () => {
  const [first, second] = streamsOfOneShard;
  if (first === undefined || second === undefined) throw new Error("no streams");
  const now = Date.now();
  const commit = (stream: string, at: number): Commit => ({
    ...{ stream, version: 1, position: positionAt(at), events: events(stream.split("/")[1] ?? "") },
  });
  const visible = [commit(second, now)];
  const log = {
    readShard: async (shard: number, after: string) =>
      shard === 0
        ? visible
            .filter(({ position }) => position > after)
            .sort((a, b) => (a.position < b.position ? -1 : 1))
        : [],
  };
  const checkpoint = memoryCheckpoint();
  const { follower, seen } = follow({ log, checkpoint, lateMs: 60_000 });
  await follower.caughtUp;
  expect(seen).toEqual([`${second}@1`]);
  visible.push(commit(first, now - 2_000));
  await eventually(() => seen.includes(`${first}@1`));
  expect(seen).toEqual([`${second}@1`, `${first}@1`]);
  expect(checkpoint.positions[0]).toBe("");
});

test("a restart goes on from the checkpoint, and reads again only the last moments", async () => {
  let clock = 1_000_000;
  const log = memoryEventLog(positionSource(() => clock));
  const checkpoint = memoryCheckpoint();
  for (let i = 0; i < 10; i++) await log.append(`conversation/c${i}`, 0, events(`c${i}`));
  clock += 60_000;
  const options = { log, checkpoint, lateMs: 5_000, now: () => clock };
  const first = follow(options);
  await first.follower.caughtUp;
  await first.follower.stop();
  expect(first.seen).toHaveLength(10);

  await log.append("conversation/new", 0, events("new"));
  const second = follow(options);
  await second.follower.caughtUp;
  await second.follower.stop();
  expect(second.seen).toEqual(["conversation/new@1"]);

  const third = follow(options);
  await third.follower.caughtUp;
  expect(third.seen).toEqual(["conversation/new@1"]);
});

test("a commit that fails is tried again with what follows it; what came before counts", async () => {
  const [stream] = streamsOfOneShard;
  if (stream === undefined) throw new Error("no stream");
  const log = memoryEventLog();
  for (let version = 0; version < 4; version++) await log.append(stream, version, events("c"));
  const batches: number[][] = [];
  let failures = 2;
  const { follower } = follow({
    log,
    handle: async (commits) => {
      batches.push(commits.map(({ version }) => version));
      const bad = commits.findIndex(({ version }) => version === 3);
      return bad >= 0 && failures-- > 0 ? bad : commits.length;
    },
  });
  await follower.caughtUp;
  expect(batches).toEqual([
    [1, 2, 3, 4],
    [3, 4],
    [3, 4],
  ]);
});

test("a handler that throws is tried again, and the error is told", async () => {
  const log = memoryEventLog();
  await log.append("conversation/c1", 0, events("c1"));
  let calls = 0;
  const { follower, errors } = follow({
    log,
    handle: async (commits) => {
      if (++calls === 1) throw new Error("store is away");
      return commits.length;
    },
  });
  await follower.caughtUp;
  expect(calls).toBe(2);
  expect(errors).toEqual([new Error("store is away")]);
});

test("a commit that can never be handled holds up its shard only for so long", async () => {
  const [bad, good] = streamsOfOneShard;
  if (bad === undefined || good === undefined) throw new Error("no streams");
  const log = memoryEventLog();
  await log.append(bad, 0, events("bad"));
  await log.append(good, 0, events("good"));
  const handled: string[] = [];
  const { follower, errors } = follow({
    log,
    maxAttempts: 2,
    handle: async (commits) => {
      const index = commits.findIndex(({ stream }) => stream === bad);
      const done = index < 0 ? commits : commits.slice(0, index);
      handled.push(...done.map(({ stream }) => stream));
      return done.length;
    },
  });
  await follower.caughtUp;
  expect(handled).toEqual([good]);
  expect(errors).toMatchObject([{ name: "SkippedCommit" }]);
});

test("a follower that was stopped handles nothing more", async () => {
  const log = memoryEventLog();
  const { follower, seen } = follow({ log });
  await log.append("conversation/c1", 0, events("c1"));
  await eventually(() => seen.length === 1);
  await follower.stop();
  follower.offer(await log.append("conversation/c1", 1, events("c1")));
  await turnOfLoop();
  expect(seen).toEqual(["conversation/c1@1"]);
});
