import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type StreamToken, type TokenStream, tokenStream } from "../../dataplane/token-stream.ts";
import {
  type TurnMessage,
  turnJobKey,
  turnKey,
  turnReadKey,
  turnTokensKey,
} from "../../events/redis-keys.ts";
import { MemoryStreams, memoryTokenStream } from "../simulation/memory-streams.ts";
import { freshRedis } from "../support/parts.ts";
import { streamOnRedis } from "./redis-stream.ts";
import {
  endAt,
  jobOf,
  longLeaseMs,
  type StreamHarness,
  tokenStreamContract,
  words,
} from "./token-stream.contract.ts";

let redis: Redis;
let listener: Redis;

beforeAll(async () => {
  redis = new Redis(await freshRedis());
  listener = redis.duplicate();
});
afterAll(() => {
  redis.disconnect();
  listener.disconnect();
});

function inMemory(): StreamHarness {
  let now = 1_700_000_000_000;
  const watched = new Set<string>();
  const published: TurnMessage[] = [];
  const streams = new MemoryStreams({
    now: () => now,
    publish: (message) => published.push(message),
    isWatched: (turnId) => watched.has(turnId),
  });
  return {
    stream: memoryTokenStream(streams),
    stored: async (turnId) => {
      const { tokens = [], end } = streams.turn(turnId) ?? {};
      return { tokens: [...tokens], end };
    },
    listen: async (turnId) => () => published.filter((message) => message.turnId === turnId),
    pass: async (ms) => {
      now += ms;
    },
    wishCancel: async (turnId, reason) => streams.wishCancel(turnId, reason),
    watch: async (turnId) => void watched.add(turnId),
    unwatch: async (turnId) => void watched.delete(turnId),
    loseAll: async () => streams.loseAll(),
    snapshot: async () => {
      const rollBack = streams.snapshot();
      return async () => rollBack();
    },
  };
}

describe("in Redis", () => {
  tokenStreamContract(() => streamOnRedis(redis, listener));

  test("what a turn leaves behind expires", async () => {
    const turnId = randomUUID();
    const job = jobOf(turnId, turnId);
    const stream = tokenStream(redis);
    const claim = await stream.claim(job, { leaderId: "a", groupId: "g", leaseMs: longLeaseMs });
    const epoch = claim.status === "claimed" ? claim.epoch : 0;
    await stream.appendAll([{ turnId, epoch, from: 1, tokens: words(1, 1) }]);
    const keys = [turnKey(turnId), turnTokensKey(turnId), turnJobKey(turnId)];
    const lifetimes = () => Promise.all(keys.map((key) => redis.pttl(key)));
    for (const day of await lifetimes()) expect(day).toBeGreaterThan(23 * 3_600_000);
    await stream.seal(job, epoch, endAt(1, epoch));
    const [hash = 0, tokens = 0, jobLeft] = await lifetimes();
    for (const hour of [hash, tokens]) {
      expect(hour).toBeGreaterThan(0);
      expect(hour).toBeLessThanOrEqual(3_600_000);
    }
    expect(jobLeft).toBe(-2);
  });

  test("who reads over HTTP watches, for as long as they say so", async () => {
    const turnId = randomUUID();
    const job = jobOf(turnId, turnId);
    const stream = tokenStream(redis);
    const claim = await stream.claim(job, { leaderId: "a", groupId: "g", leaseMs: longLeaseMs });
    const epoch = claim.status === "claimed" ? claim.epoch : 0;
    const renewed = async () => (await stream.renewAll([{ job, epoch }], longLeaseMs, 1))[0];
    await redis.set(turnReadKey(turnId), "1");
    for (let i = 0; i < 2; i++) expect(await renewed()).toMatchObject({ cancel: undefined });
    await redis.del(turnReadKey(turnId));
    await renewed();
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(await renewed()).toMatchObject({ cancel: "abandoned" });
  });
});

describe("in memory", () => {
  tokenStreamContract(inMemory);
});

/** What a leader of the property believes of the turn, right or wrong. */
interface Belief {
  epoch: number;
  leaseUntilMs: number;
  tokens: StreamToken[];
}

const stepArbitrary = fc.record({
  leader: fc.constantFrom("a", "b", "c"),
  act: fc.constantFrom(
    ...["claim", "claim", "append", "append", "append", "retry", "renew", "restore", "seal"],
    ...["orphans", "pass", "watch", "unwatch", "cancel", "remember", "roll back", "lose all"],
  ),
  size: fc.integer({ min: 1, max: 3 }),
  leaseMs: fc.constantFrom(0, longLeaseMs),
});
type Step = typeof stepArbitrary extends fc.Arbitrary<infer T> ? T : never;

/** Runs the same steps on any store; @returns what each said, epochs by their rank. */
async function outcomes(on: StreamHarness, steps: readonly Step[]): Promise<unknown[]> {
  const turnId = randomUUID();
  const job = jobOf(turnId, turnId);
  const beliefs = new Map<string, Belief>();
  const epochs: number[] = [];
  const rank = (epoch: number) => (epoch === 0 ? 0 : epochs.indexOf(epoch) + 1);
  const ranked = (tokens: readonly StreamToken[]) =>
    tokens.map(({ text, epoch }) => `${text}${rank(epoch)}`);
  let rollBack = async () => {};
  const results: unknown[] = [];

  async function act({ leader, act: what, size, leaseMs }: Step): Promise<unknown> {
    const { stream } = on;
    const belief = beliefs.get(leader);
    const runner = { leaderId: leader, groupId: `group-of-${leader}` };
    const epoch = belief?.epoch ?? 0;
    const last = belief?.tokens.length ?? 0;
    switch (what) {
      case "claim": {
        // A store that has lost its data gives a new epoch by its clock.
        await on.pass(2);
        const claim = await stream.claim(job, { ...runner, leaseMs });
        if (claim.status === "held") return "held";
        if (claim.status === "claimed") {
          epochs.push(claim.epoch);
          const { leaseUntilMs } = claim;
          beliefs.set(leader, { epoch: claim.epoch, leaseUntilMs, tokens: [...claim.tokens] });
        }
        const { status, leaderId } = claim;
        const more = status === "claimed" ? [claim.cancel, claim.barrenClaims] : claim.end.lastSeq;
        const hasSpoken = claim.firstTokenAt > 0;
        return [status, rank(claim.epoch), leaderId, hasSpoken, ranked(claim.tokens), more];
      }
      case "append":
      case "retry": {
        const from = what === "append" ? last + 1 : Math.max(1, last + 1 - size);
        const tokens = words(from, what === "append" ? last + size : last + 1, leader);
        const [result] = await stream.appendAll([{ turnId, epoch, from, tokens }]);
        if (result === "ok" && belief !== undefined) {
          const next = tokens.slice(last + 1 - from).map((token) => ({ ...token, epoch }));
          belief.tokens.push(...next);
        }
        return result;
      }
      case "renew": {
        // Longer than the shortest window, by either clock.
        await on.pass(2);
        const abandonMs = size === 1 ? 1 : size === 2 ? 0 : 3_600_000;
        const [renewal] = await stream.renewAll([{ job, epoch }], leaseMs, abandonMs);
        if (belief !== undefined) belief.leaseUntilMs = renewal?.leaseUntilMs ?? 0;
        return [renewal?.status, renewal?.cancel, (renewal?.leaseUntilMs ?? 0) > 0];
      }
      case "restore": {
        const { tokens, leaseUntilMs } = belief ?? { tokens: [], leaseUntilMs: 0 };
        if (epoch === 0) return "nothing";
        return stream.restore(
          { job, epoch, ...runner, startedAt: 7, leaseUntilMs, tokens },
          leaseMs,
        );
      }
      case "seal":
        return stream.seal(job, epoch, endAt(last, 0));
      case "orphans":
        await on.pass(2);
        return (await stream.orphans(job.revision, 5)).length;
      case "pass":
        await on.pass(2);
        return undefined;
      case "watch":
        await on.watch(turnId);
        return undefined;
      case "unwatch":
        await on.unwatch(turnId);
        return undefined;
      case "cancel":
        await on.wishCancel(turnId, "user");
        return undefined;
      case "remember":
        rollBack = await on.snapshot();
        return undefined;
      case "roll back":
        await rollBack();
        return undefined;
      default: // "lose all"
        // Watchers are not the stream's to keep.
        await on.loseAll();
        await on.unwatch(turnId);
        return undefined;
    }
  }

  for (const step of steps) {
    const result = await act(step);
    const { tokens, end } = await on.stored(turnId);
    expect(tokens.map(({ token }) => token)).toEqual(tokens.map((_, i) => i + 1));
    if (end !== undefined) expect(end.lastSeq).toBe(tokens.length);
    results.push([step.act, result, ranked(tokens), end]);
  }
  return results;
}

test("however leaders come and go, Redis and memory say the same, and no stream has a gap", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(stepArbitrary, { minLength: 10, maxLength: 50 }), async (steps) => {
      await redis.flushdb();
      expect(await outcomes(streamOnRedis(redis, listener), steps)).toEqual(
        await outcomes(inMemory(), steps),
      );
    }),
    { numRuns: 150, interruptAfterTimeLimit: 15_000 },
  );
});

test("a stream without a rollback keeps its authors in the order of their epochs", async () => {
  const calm = stepArbitrary.filter(({ act }) => !["roll back", "lose all"].includes(act));
  await fc.assert(
    fc.asyncProperty(fc.array(calm, { minLength: 10, maxLength: 60 }), async (steps) => {
      const harness = inMemory();
      let turnId = "";
      const { claim } = harness.stream;
      const stream: TokenStream = {
        ...harness.stream,
        claim: (job, claimant) => {
          turnId = job.turnId;
          return claim(job, claimant);
        },
      };
      await outcomes({ ...harness, stream }, steps);
      const epochs = (await harness.stored(turnId)).tokens.map(({ epoch }) => epoch);
      expect(epochs).toEqual(epochs.toSorted((x, y) => x - y));
    }),
    { numRuns: 300 },
  );
});
