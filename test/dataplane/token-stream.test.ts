import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readEntries, type TokenStream, tokenStream } from "../../dataplane/token-stream.ts";
import { relayShardOf, shardChannel, turnKey, turnTokensKey } from "../../events/redis-keys.ts";
import { freshRedis } from "../support/parts.ts";

let redis: Redis;
let stream: TokenStream;

beforeAll(async () => {
  redis = new Redis(await freshRedis());
  stream = tokenStream(redis);
});
afterAll(() => redis.disconnect());

const words = (from: number, to: number, by = "w") =>
  Array.from({ length: to - from + 1 }, (_, i) => ({ text: `${by}${from + i} `, token: from + i }));

const claimAs = (turnId: string, leaderId: string, leaseMs = 60_000) =>
  stream.claim(turnId, { leaderId, groupId: `group-of-${leaderId}`, tenantId: "t", leaseMs });

const append = async (turnId: string, epoch: number, from: number, to: number, by?: string) =>
  (await stream.appendAll([{ turnId, epoch, from, tokens: words(from, to, by) }]))[0];

const endAt = (lastSeq: number) => ({
  lastSeq,
  finishReason: "stop" as const,
  usage: { promptTokens: 1, completionTokens: lastSeq },
  timings: { queuedMs: 0, firstTokenMs: 0, totalMs: 0 },
});

async function stored(turnId: string) {
  return readEntries(await redis.xrange(turnTokensKey(turnId), "-", "+"));
}

describe("claim", () => {
  test("gives the first claimant epoch 1 and an empty stream", async () => {
    const claim = await claimAs(randomUUID(), "a");
    expect(claim).toMatchObject({ status: "claimed", epoch: 1, tokens: [], cancel: false });
  });

  test("is held while another leader's lease is alive, and says for how long", async () => {
    const turnId = randomUUID();
    await claimAs(turnId, "a", 60_000);
    const claim = await claimAs(turnId, "b");
    expect(claim).toMatchObject({ status: "held" });
    expect((claim as { forMs: number }).forMs).toBeGreaterThan(50_000);
  });

  test("gives an expired turn to the next leader, with a higher epoch and all tokens", async () => {
    const turnId = randomUUID();
    await claimAs(turnId, "a", 0);
    await append(turnId, 1, 1, 3);
    const claim = await claimAs(turnId, "b");
    expect(claim).toMatchObject({ status: "claimed", epoch: 2, tokens: words(1, 3) });
  });

  test("tells of a wish to cancel", async () => {
    const turnId = randomUUID();
    await redis.hset(turnKey(turnId), "cancel", "user");
    expect(await claimAs(turnId, "a")).toMatchObject({ status: "claimed", cancel: true });
  });

  test("of a sealed turn gives its end and who wrote it", async () => {
    const turnId = randomUUID();
    await claimAs(turnId, "a");
    await append(turnId, 1, 1, 2);
    await stream.seal(turnId, 1, endAt(2));
    expect(await claimAs(turnId, "b")).toMatchObject({
      ...{ status: "sealed", epoch: 1, leaderId: "a", groupId: "group-of-a" },
      ...{ tokens: words(1, 2), end: endAt(2) },
    });
  });
});

describe("append", () => {
  const cases = [
    { name: "what comes next", epoch: 2, from: 4, to: 5, result: "ok", tokens: 5 },
    { name: "what is there, again", epoch: 2, from: 1, to: 3, result: "duplicate", tokens: 3 },
    { name: "what is partly there", epoch: 2, from: 2, to: 5, result: "ok", tokens: 5 },
    { name: "what leaves a gap", epoch: 2, from: 5, to: 5, result: "gap", tokens: 3 },
    { name: "a lower epoch", epoch: 1, from: 4, to: 4, result: "stale", tokens: 3 },
    { name: "an epoch that was never given", epoch: 3, from: 4, to: 4, result: "stale", tokens: 3 },
  ];
  test.each(cases)("$name: $result", async ({ epoch, from, to, result, tokens }) => {
    const turnId = randomUUID();
    await claimAs(turnId, "a", 0);
    await append(turnId, 1, 1, 3);
    await claimAs(turnId, "b");
    expect(await append(turnId, epoch, from, to)).toBe(result);
    expect((await stored(turnId)).tokens).toEqual(words(1, tokens));
  });

  test("of a turn that nobody claimed is stale", async () => {
    expect(await append(randomUUID(), 1, 1, 1)).toBe("stale");
  });

  test("after the seal writes nothing", async () => {
    const turnId = randomUUID();
    await claimAs(turnId, "a");
    await stream.seal(turnId, 1, endAt(0));
    expect(await append(turnId, 1, 1, 1)).toBe("sealed");
    expect((await stored(turnId)).tokens).toEqual([]);
  });

  test("publishes on the shard's channel what it writes", async () => {
    const turnId = randomUUID();
    const listener = redis.duplicate();
    const heard: unknown[] = [];
    // Logical databases share their channels: other tests may publish on this one.
    listener.on("message", (_channel, text) => {
      const message = JSON.parse(text) as { turnId: string };
      if (message.turnId === turnId) heard.push(message);
    });
    await listener.subscribe(shardChannel(relayShardOf(turnId)));
    await claimAs(turnId, "a");
    await append(turnId, 1, 1, 2);
    await expect
      .poll(() => heard, { timeout: 10_000 })
      .toEqual([{ kind: "tokens", turnId, from: 1, texts: ["w1 ", "w2 "] }]);
    listener.disconnect();
  });

  test("of many turns keeps their results in order", async () => {
    const [first, second] = [randomUUID(), randomUUID()];
    await claimAs(second, "a");
    const results = await stream.appendAll([
      { turnId: first, epoch: 1, from: 1, tokens: words(1, 1) },
      { turnId: second, epoch: 1, from: 1, tokens: words(1, 1) },
    ]);
    expect(results).toEqual(["stale", "ok"]);
  });
});

describe("renew and seal", () => {
  test("a renewal by the right epoch keeps others out, by a stale one changes nothing", async () => {
    const turnId = randomUUID();
    await claimAs(turnId, "a", 0);
    await claimAs(turnId, "b", 0);
    const renew = (epoch: number) => stream.renewAll([{ turnId, epoch }], 60_000);
    expect(await renew(1)).toEqual([{ status: "stale", cancel: false }]);
    expect(await claimAs(turnId, "c", 0)).toMatchObject({ status: "claimed", epoch: 3 });
    expect(await renew(3)).toEqual([{ status: "ok", cancel: false }]);
    expect(await claimAs(turnId, "d")).toMatchObject({ status: "held" });
  });

  test("a lease of 0 gives the turn up at once", async () => {
    const turnId = randomUUID();
    await claimAs(turnId, "a");
    await stream.renewAll([{ turnId, epoch: 1 }], 0);
    expect(await claimAs(turnId, "b")).toMatchObject({ status: "claimed", epoch: 2 });
  });

  test("a seal needs the last token and the highest epoch, and happens once", async () => {
    const turnId = randomUUID();
    await claimAs(turnId, "a", 0);
    await claimAs(turnId, "b");
    await append(turnId, 2, 1, 2);
    expect(await stream.seal(turnId, 1, endAt(2))).toBe("stale");
    expect(await stream.seal(turnId, 2, endAt(1))).toBe("gap");
    expect(await stream.seal(turnId, 2, endAt(2))).toBe("ok");
    expect(await stream.seal(turnId, 2, endAt(2))).toBe("sealed");
    expect((await stored(turnId)).end).toEqual(endAt(2));
  });

  test("what a turn leaves behind expires", async () => {
    const turnId = randomUUID();
    await claimAs(turnId, "a");
    await append(turnId, 1, 1, 1);
    const day = await redis.pttl(turnTokensKey(turnId));
    await stream.seal(turnId, 1, endAt(1));
    const hour = await redis.pttl(turnTokensKey(turnId));
    expect(day).toBeGreaterThan(23 * 3_600_000);
    expect(hour).toBeGreaterThan(0);
    expect(hour).toBeLessThanOrEqual(3_600_000);
  });
});

test("however leaders come and go, a stream has no gap, no repeat and one author per epoch", async () => {
  const step = fc.record({
    leader: fc.constantFrom("a", "b", "c"),
    act: fc.constantFrom("claim", "append", "append", "retry", "seal"),
    size: fc.integer({ min: 1, max: 3 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const turnId = randomUUID();
      /** What each leader believes, right or wrong. */
      const beliefs = new Map<string, { epoch: number; seq: number; last: number }>();
      for (const { leader, act, size } of steps) {
        const belief = beliefs.get(leader);
        if (act === "claim") {
          const claim = await claimAs(turnId, leader, 0);
          if (claim.status !== "claimed") continue;
          const seq = claim.tokens.length;
          beliefs.set(leader, { epoch: claim.epoch, seq, last: seq });
        } else if (belief === undefined) {
        } else if (act === "seal") {
          await stream.seal(turnId, belief.epoch, endAt(belief.seq));
        } else {
          const from = act === "retry" ? belief.last + 1 : belief.seq + 1;
          const to = act === "retry" ? Math.max(from, belief.seq) : belief.seq + size;
          const result = await append(turnId, belief.epoch, from, to, `${leader}${belief.epoch}-`);
          if (result === "ok")
            Object.assign(belief, { last: from - 1, seq: Math.max(belief.seq, to) });
        }
      }
      const { tokens, end } = await stored(turnId);
      expect(tokens.map(({ token }) => token)).toEqual(tokens.map((_, i) => i + 1));
      const epochs = tokens.map(({ text }) => Number(/(\d+)-/.exec(text)?.[1]));
      expect(epochs).toEqual(epochs.toSorted((x, y) => x - y));
      if (end !== undefined) expect(end.lastSeq).toBe(tokens.length);
    }),
    { numRuns: 150 },
  );
});
