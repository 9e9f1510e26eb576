import { randomUUID } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import type { CancelReason, StreamToken, TokenStream } from "../../dataplane/token-stream.ts";
import type { Job } from "../../events/jobs.ts";
import type { StreamEnd, TurnMessage } from "../../events/redis-keys.ts";

/** A token stream, and what tests do to the store behind it. */
export interface StreamHarness {
  stream: TokenStream;
  stored(turnId: string): Promise<{ tokens: StreamToken[]; end: StreamEnd | undefined }>;
  /** @returns what has been published of the turn since. */
  listen(turnId: string): Promise<() => TurnMessage[]>;
  /** Lets the store's clock go on. */
  pass(ms: number): Promise<void>;
  wishCancel(turnId: string, reason: CancelReason): Promise<void>;
  watch(turnId: string): Promise<void>;
  unwatch(turnId: string): Promise<void>;
  loseAll(): Promise<void>;
  /** @returns what brings back the store as it is now, without all that comes after. */
  snapshot(): Promise<() => Promise<void>>;
}

export const longLeaseMs = 60_000;

export const jobOf = (turnId: string, revision: string): Job => ({
  ...{ version: 1, turnId, tenantId: "t", conversationId: `c-${turnId}`, revision },
  messages: [{ role: "user", content: "Say something." }],
  sampling: {
    ...{ maxTokens: 100, temperature: 0, topK: 0, topP: 1, minP: 0 },
    ...{ repetitionPenalty: 1, stop: [], seed: 1 },
  },
  ...{ requestedAt: 1, correlationId: turnId, priority: "interactive" },
});

export const words = (from: number, to: number, by = "w") =>
  Array.from({ length: to - from + 1 }, (_, i) => ({ text: `${by}${from + i} `, token: from + i }));

export const endAt = (lastSeq: number, epoch: number): StreamEnd => ({
  ...{ lastSeq, epoch, finishReason: "stop" },
  usage: { promptTokens: 1, completionTokens: lastSeq },
  timings: { queuedMs: 0, firstTokenMs: 0, totalMs: 0 },
});

/** What every token stream has to do, whatever it keeps its tokens in. */
export function tokenStreamContract(harnessOf: () => StreamHarness): void {
  let on: StreamHarness;
  /** A fresh one for each test. */
  let job: Job;
  let turnId: string;

  beforeEach(() => {
    on = harnessOf();
    turnId = randomUUID();
    job = jobOf(turnId, `r-${turnId}`);
  });

  const claimAs = (leaderId: string, leaseMs = longLeaseMs, what = job) =>
    on.stream.claim(what, { leaderId, groupId: `group-of-${leaderId}`, leaseMs });

  /** Claims a turn that is to be had. */
  async function take(leaderId: string, leaseMs = longLeaseMs) {
    const claim = await claimAs(leaderId, leaseMs);
    if (claim.status !== "claimed") throw new Error(`The turn is ${claim.status}.`);
    return claim;
  }

  const append = async (epoch: number, from: number, to: number, by?: string) =>
    (await on.stream.appendAll([{ turnId, epoch, from, tokens: words(from, to, by) }]))[0];

  const renew = async (epoch: number, leaseMs = longLeaseMs, abandonMs?: number) =>
    (await on.stream.renewAll([{ job, epoch }], leaseMs, abandonMs))[0];

  /** What a leader knows; its lease stands for long, unless something else is said. */
  const record = (
    epoch: number,
    leaderId: string,
    tokens: StreamToken[],
    leaseUntilMs = Number.MAX_SAFE_INTEGER,
  ) => ({
    ...{
      job,
      epoch,
      leaderId,
      groupId: `group-of-${leaderId}`,
      startedAt: 7,
      leaseUntilMs,
      tokens,
    },
  });

  /** Ends a lease, as if it had run out. */
  const leave = (epoch: number) => renew(epoch, 0);

  const said = (epoch: number, from: number, to: number, by?: string): StreamToken[] =>
    words(from, to, by).map((token) => ({ ...token, epoch }));

  describe("claim", () => {
    test("gives the first claimant an empty stream and an epoch no lower than the time", async () => {
      const claim = await take("a");
      expect(claim).toMatchObject({ cancel: undefined, barrenClaims: 1, tokens: [] });
      expect(claim).toMatchObject({ leaderId: "a", groupId: "group-of-a", firstTokenAt: 0 });
      expect(claim.epoch).toBe(claim.startedAt);
    });

    test("is held while another leader's lease is alive, and says for how long", async () => {
      await take("a");
      const claim = await claimAs("b");
      expect(claim.status).toBe("held");
      expect((claim as { forMs: number }).forMs).toBeGreaterThan(50_000);
      expect((claim as { forMs: number }).forMs).toBeLessThanOrEqual(longLeaseMs);
    });

    test("gives an expired turn to the next leader, with a higher epoch and all tokens", async () => {
      const first = await take("a");
      await append(first.epoch, 1, 3);
      await leave(first.epoch);
      const second = await take("b");
      expect(second.epoch).toBeGreaterThan(first.epoch);
      expect(second).toMatchObject({ leaderId: "b", tokens: said(first.epoch, 1, 3) });
      expect(second.startedAt).toBe(first.startedAt);
      expect(second.firstTokenAt).toBeGreaterThanOrEqual(first.startedAt);
    });

    test("gives the same leader a higher epoch, though its own lease is alive", async () => {
      const first = await take("a");
      const second = await take("a");
      expect(second.epoch).toBeGreaterThan(first.epoch);
      expect(await append(first.epoch, 1, 1)).toBe("stale");
      expect(await append(second.epoch, 1, 1)).toBe("ok");
    });

    test("counts the claims in a row that found the same tokens", async () => {
      await take("a", 0);
      const second = await take("b");
      expect(second.barrenClaims).toBe(2);
      await append(second.epoch, 1, 1);
      await leave(second.epoch);
      expect((await take("c", 0)).barrenClaims).toBe(1);
      expect((await take("d", 0)).barrenClaims).toBe(2);
    });

    test("tells of a wish to cancel, though it came first", async () => {
      await on.wishCancel(turnId, "user");
      expect((await take("a")).cancel).toBe("user");
    });

    test("of a sealed turn gives its end and who wrote it", async () => {
      const { epoch } = await take("a");
      await append(epoch, 1, 2);
      await on.stream.seal(job, epoch, endAt(2, epoch));
      expect(await claimAs("b")).toMatchObject({
        ...{ status: "sealed", epoch, leaderId: "a", groupId: "group-of-a" },
        ...{ tokens: said(epoch, 1, 2), end: endAt(2, epoch) },
      });
    });

    test("has a higher epoch than every one before, even after all data is lost", async () => {
      const epochs = [];
      for (const leaderId of ["a", "b", "c"]) {
        epochs.push((await take(leaderId, 0)).epoch);
        await on.loseAll();
        await on.pass(2);
      }
      expect(epochs.toSorted((x, y) => x - y)).toEqual(epochs);
      expect(new Set(epochs).size).toBe(3);
    });
  });

  describe("append", () => {
    const cases = [
      { name: "what comes next", by: "b", from: 4, to: 5, result: "ok", tokens: 5 },
      { name: "what is there, again", by: "b", from: 1, to: 3, result: "duplicate", tokens: 3 },
      { name: "what is partly there", by: "b", from: 2, to: 5, result: "ok", tokens: 5 },
      { name: "what leaves a gap", by: "b", from: 5, to: 5, result: "behind", tokens: 3 },
      { name: "a lower epoch", by: "a", from: 4, to: 4, result: "stale", tokens: 3 },
      { name: "a lower epoch's repeat", by: "a", from: 3, to: 3, result: "stale", tokens: 3 },
      { name: "an epoch that is not known", by: "?", from: 4, to: 4, result: "behind", tokens: 3 },
    ];
    test.each(cases)("$name: $result", async ({ by, from, to, result, tokens }) => {
      const first = (await take("a")).epoch;
      await append(first, 1, 3);
      await leave(first);
      const second = (await take("b")).epoch;
      const epoch = by === "a" ? first : by === "b" ? second : second + 1;
      expect(await append(epoch, from, to, "again")).toBe(result);
      const after = said(second, 4, tokens, "again");
      expect((await on.stored(turnId)).tokens).toEqual([...said(first, 1, 3), ...after]);
    });

    test("to a turn that nobody claimed, or is only to be cancelled, is behind", async () => {
      expect(await append(5, 1, 1)).toBe("behind");
      await on.wishCancel(turnId, "user");
      expect(await append(5, 1, 1)).toBe("behind");
    });

    test("after the seal writes nothing", async () => {
      const { epoch } = await take("a");
      await on.stream.seal(job, epoch, endAt(0, epoch));
      expect(await append(epoch, 1, 1)).toBe("sealed");
      expect((await on.stored(turnId)).tokens).toEqual([]);
    });

    test("tells who watches what was written and the end, and nothing of what was refused", async () => {
      const heard = await on.listen(turnId);
      const first = (await take("a", 0)).epoch;
      const { epoch } = await take("b");
      await append(first, 1, 1);
      await append(epoch, 1, 2);
      await append(epoch, 1, 2);
      await append(epoch, 4, 4);
      await on.stream.seal(job, first, endAt(2, first));
      await on.stream.seal(job, epoch, endAt(2, epoch));
      await expect.poll(heard, { timeout: 10_000 }).toEqual([
        { kind: "tokens", turnId, epoch, from: 1, texts: ["w1 ", "w2 "] },
        { kind: "end", turnId, epoch, end: endAt(2, epoch) },
      ]);
    });

    test("of many turns keeps their results in order", async () => {
      const { epoch } = await take("a");
      const other = { turnId: randomUUID(), epoch, from: 1, tokens: words(1, 1) };
      const results = await on.stream.appendAll([other, { ...other, turnId }, other]);
      expect(results).toEqual(["behind", "ok", "behind"]);
      expect(await on.stream.appendAll([])).toEqual([]);
    });
  });

  describe("restore", () => {
    test("writes a turn anew that is lost as a whole, and its lease with it", async () => {
      const { epoch } = await take("a");
      await append(epoch, 1, 3);
      await on.loseAll();
      expect(await append(epoch, 4, 4)).toBe("behind");
      expect(await on.stream.restore(record(epoch, "a", said(epoch, 1, 3)), longLeaseMs)).toBe(
        "ok",
      );
      expect(await append(epoch, 4, 4)).toBe("ok");
      expect((await on.stored(turnId)).tokens).toEqual(said(epoch, 1, 4));
      expect((await claimAs("b")).status).toBe("held");
      expect(await claimAs("a")).toMatchObject({ startedAt: 7, barrenClaims: 1 });
    });

    test("writes the last tokens anew, also those that others have written", async () => {
      const first = await take("a");
      await append(first.epoch, 1, 2);
      await leave(first.epoch);
      const { epoch, tokens } = await take("b");
      const rollBack = await on.snapshot();
      await append(epoch, 3, 5);
      await rollBack();
      expect(await append(epoch, 6, 6)).toBe("behind");
      const all = [...tokens, ...said(epoch, 3, 5)];
      expect(await on.stream.restore(record(epoch, "b", all), longLeaseMs)).toBe("ok");
      expect(await append(epoch, 6, 6)).toBe("ok");
      expect((await on.stored(turnId)).tokens).toEqual([...all, ...said(epoch, 6, 6)]);
    });

    test("takes the turn back from a leader whose claim is the older one", async () => {
      const first = await take("a");
      await append(first.epoch, 1, 1, "a");
      await leave(first.epoch);
      const rollBack = await on.snapshot();
      const second = await take("b");
      await append(second.epoch, 2, 2, "b");
      await rollBack();
      const restored = [...second.tokens, ...said(second.epoch, 2, 2, "b")];
      expect(await on.stream.restore(record(second.epoch, "b", restored), longLeaseMs)).toBe("ok");
      expect(await append(first.epoch, 3, 3, "a")).toBe("stale");
      expect((await on.stored(turnId)).tokens).toEqual(restored);
    });

    test("is refused to a leader whose lease has run out: another may have had the turn since", async () => {
      const { epoch, leaseUntilMs } = await take("a", 3);
      await append(epoch, 1, 1);
      await on.loseAll();
      await on.pass(6);
      const late = record(epoch, "a", said(epoch, 1, 1), leaseUntilMs);
      expect(await on.stream.restore(late, longLeaseMs)).toBe("stale");
      expect((await on.stored(turnId)).tokens).toEqual([]);
    });

    test("is refused to a lower epoch, and to another leader of the same", async () => {
      const first = await take("a", 0);
      const { epoch } = await take("b");
      await append(epoch, 1, 1);
      const late = record(first.epoch, "a", []);
      expect(await on.stream.restore(late, longLeaseMs)).toBe("stale");
      expect(await on.stream.restore(record(epoch, "a", []), longLeaseMs)).toBe("stale");
      expect((await on.stored(turnId)).tokens).toEqual(said(epoch, 1, 1));
    });

    test("leaves a sealed turn as it is", async () => {
      const { epoch } = await take("a");
      await append(epoch, 1, 1);
      await on.stream.seal(job, epoch, endAt(1, epoch));
      expect(await on.stream.restore(record(epoch, "a", []), longLeaseMs)).toBe("sealed");
      expect(await on.stored(turnId)).toEqual({
        ...{ tokens: said(epoch, 1, 1), end: endAt(1, epoch) },
      });
    });
  });

  describe("renew", () => {
    const ok = { status: "ok", cancel: undefined, leaseUntilMs: expect.any(Number) };
    const refused = { cancel: undefined, leaseUntilMs: 0 };

    test("by the right epoch keeps others out, by a stale one changes nothing", async () => {
      const first = await take("a", 0);
      await take("b", 0);
      expect(await renew(first.epoch)).toEqual({ status: "stale", ...refused });
      const third = await take("c");
      expect(await renew(third.epoch)).toEqual(ok);
      expect((await claimAs("d")).status).toBe("held");
    });

    test("with a lease of 0 gives the turn up at once", async () => {
      const { epoch } = await take("a");
      expect(await renew(epoch, 0)).toEqual(ok);
      expect((await claimAs("b")).status).toBe("claimed");
    });

    test("says until when the lease stands, by the same clock as the claim", async () => {
      const { epoch, startedAt, leaseUntilMs } = await take("a", 1_000);
      expect(leaseUntilMs).toBe(startedAt + 1_000);
      const renewal = await renew(epoch, 5_000);
      expect(renewal?.leaseUntilMs).toBeGreaterThanOrEqual(startedAt + 5_000);
    });

    test("leaves a sealed turn without a lease", async () => {
      const { epoch } = await take("a");
      await on.stream.seal(job, epoch, endAt(0, epoch));
      expect(await renew(epoch)).toEqual({ status: "ok", ...refused });
    });

    test("says that the claim is lost", async () => {
      const { epoch } = await take("a");
      await on.loseAll();
      expect(await renew(epoch)).toEqual({ status: "behind", ...refused });
      expect((await claimAs("b")).status).toBe("claimed");
    });

    test("brings a wish to cancel, to the right epoch only", async () => {
      const first = await take("a", 0);
      const { epoch } = await take("b");
      await on.wishCancel(turnId, "user");
      expect(await renew(epoch)).toEqual({ ...ok, cancel: "user" });
      expect(await renew(first.epoch)).toEqual({ status: "stale", ...refused });
    });

    test("marks a turn as abandoned once nobody has watched it for so long", async () => {
      const { epoch } = await take("a");
      expect(await renew(epoch, longLeaseMs, 20)).toEqual(ok);
      expect(await renew(epoch, longLeaseMs, 3_600_000)).toEqual(ok);
      await on.pass(21);
      expect(await renew(epoch, longLeaseMs, 3_600_000)).toEqual(ok);
      expect(await renew(epoch, longLeaseMs, 0)).toEqual(ok);
      const abandoned = { ...ok, cancel: "abandoned" };
      expect(await renew(epoch, longLeaseMs, 20)).toEqual(abandoned);
      // It stays so, whoever comes to watch or takes it over.
      await on.watch(turnId);
      expect(await renew(epoch, longLeaseMs, 0)).toEqual(abandoned);
      expect((await take("a")).cancel).toBe("abandoned");
    });

    test("counts from the last watcher, and anew after a claim", async () => {
      const first = await take("a");
      expect(await renew(first.epoch, longLeaseMs, 20)).toEqual(ok);
      await on.pass(21);
      await on.watch(turnId);
      expect(await renew(first.epoch, longLeaseMs, 20)).toEqual(ok);
      await on.unwatch(turnId);
      expect(await renew(first.epoch, 0, 20)).toEqual(ok);
      await on.pass(21);
      const { epoch } = await take("b");
      expect(await renew(epoch, longLeaseMs, 20)).toEqual(ok);
      await on.pass(21);
      expect(await renew(epoch, longLeaseMs, 20)).toEqual({ ...ok, cancel: "abandoned" });
    });

    test("leaves a user's wish as it is, though nobody watches", async () => {
      const { epoch } = await take("a");
      await on.wishCancel(turnId, "user");
      await renew(epoch, longLeaseMs, 1);
      await on.pass(2);
      expect(await renew(epoch, longLeaseMs, 1)).toEqual({ ...ok, cancel: "user" });
    });

    test("of many turns keeps their results in order", async () => {
      const { epoch } = await take("a");
      const other = { job: jobOf(randomUUID(), job.revision), epoch };
      const results = await on.stream.renewAll([other, { job, epoch }, other], longLeaseMs);
      expect(results.map(({ status }) => status)).toEqual(["behind", "ok", "behind"]);
    });
  });

  test("a seal needs the last token and the highest epoch, and happens once", async () => {
    const first = await take("a", 0);
    const { epoch } = await take("b");
    await append(epoch, 1, 2);
    expect(await on.stream.seal(job, first.epoch, endAt(2, epoch))).toBe("stale");
    expect(await on.stream.seal(job, epoch + 1, endAt(2, epoch))).toBe("behind");
    expect(await on.stream.seal(job, epoch, endAt(3, epoch))).toBe("behind");
    expect(await on.stream.seal(job, epoch, endAt(1, epoch))).toBe("stale");
    expect((await on.stored(turnId)).end).toBeUndefined();
    expect(await on.stream.seal(job, epoch, endAt(2, epoch))).toBe("ok");
    expect(await on.stream.seal(job, epoch, endAt(2, epoch))).toBe("sealed");
    expect(await on.stored(turnId)).toEqual({
      ...{ tokens: said(epoch, 1, 2), end: endAt(2, epoch) },
    });
  });

  test("a lease that has run out is over, though nobody else seems to have the turn", async () => {
    // The store may have lost another's claim: what that one said has the higher epoch.
    const first = await take("a");
    await append(first.epoch, 1, 1);
    await leave(first.epoch);
    const rollBack = await on.snapshot();
    const second = await take("b");
    await append(second.epoch, 2, 2, "b");
    await rollBack();
    await on.pass(2);
    expect(await append(first.epoch, 2, 2)).toBe("stale");
    expect((await renew(first.epoch))?.status).toBe("stale");
    expect(await on.stream.seal(job, first.epoch, endAt(1, first.epoch))).toBe("stale");
    expect(await on.stored(turnId)).toEqual({ tokens: said(first.epoch, 1, 1), end: undefined });
    expect((await take("a")).epoch).toBeGreaterThan(second.epoch);
  });

  describe("orphans", () => {
    const orphans = async (most = 10) =>
      (await on.stream.orphans(job.revision, most)).map((orphan) => orphan.turnId);

    test("are the jobs whose lease has run out, of one revision", async () => {
      const { epoch } = await take("a");
      expect(await orphans()).toEqual([]);
      await renew(epoch, 0);
      expect(await on.stream.orphans(job.revision, 10)).toEqual([job]);
      expect(await on.stream.orphans("another", 10)).toEqual([]);
      await take("b");
      expect(await orphans()).toEqual([]);
    });

    test("come longest waiting first, and no more than asked for", async () => {
      const jobs = [1, 2, 3].map(() => jobOf(randomUUID(), job.revision));
      for (const one of jobs) {
        await claimAs("a", 0, one);
        await on.pass(2);
      }
      expect(await orphans()).toEqual(jobs.map((one) => one.turnId));
      expect(await orphans(2)).toEqual(jobs.slice(0, 2).map((one) => one.turnId));
    });

    test("are no turns that have ended, whatever note of them has stayed", async () => {
      const { epoch } = await take("a");
      await on.stream.seal(job, epoch, endAt(0, epoch));
      expect(await orphans()).toEqual([]);
      await claimAs("b", 0);
      expect(await orphans()).toEqual([]);
    });

    test("are found again once their leader has restored and left them", async () => {
      const { epoch } = await take("a");
      await on.loseAll();
      expect(await orphans()).toEqual([]);
      await on.stream.restore(record(epoch, "a", []), longLeaseMs);
      await renew(epoch, 0);
      expect(await orphans()).toEqual([turnId]);
    });
  });
}
