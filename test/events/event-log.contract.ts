import { expect, test } from "vitest";
import type { ConversationEvent } from "../../events/conversation-events.ts";
import {
  conversationStream,
  type EventLog,
  logShards,
  shardOf,
  VersionConflict,
} from "../../events/event-log.ts";

/** What every event log has to do, whatever it keeps its commits in. */
export function eventLogContract(logOf: () => EventLog): void {
  let streams = 0;
  const newId = () => `c${Date.now().toString(36)}-${streams++}`;
  const added = (conversationId: string, ordinal: number) =>
    ({
      type: "TurnAdded" as const,
      version: 1 as const,
      at: 1_700_000_000_000,
      conversationId,
      turnId: `t${ordinal}`,
      ordinal,
    }) satisfies ConversationEvent;

  test("reads back what was appended, in order", async () => {
    const log = logOf();
    const id = newId();
    const stream = conversationStream(id);
    const first = await log.append(stream, 0, [added(id, 1), added(id, 2)]);
    const second = await log.append(stream, 1, [added(id, 3)]);
    expect(first).toMatchObject({ stream, version: 1, events: [added(id, 1), added(id, 2)] });
    expect(second.version).toBe(2);
    expect(second.position > first.position).toBe(true);
    expect(await log.read(stream)).toEqual([first, second]);
  });

  test("knows nothing of a stream that nobody wrote to", async () => {
    expect(await logOf().read(conversationStream(newId()))).toEqual([]);
  });

  test("reads a shard backwards, and goes on from any commit", async () => {
    const log = logOf();
    const id = newId();
    const stream = conversationStream(id);
    const shard = shardOf(stream);
    const written = [];
    for (let i = 0; i < 5; i++) written.unshift(await log.append(stream, i, [added(id, i + 1)]));
    expect((await log.readShardBack(shard, "", 3)).slice(0, 3)).toEqual(written.slice(0, 3));
    const further = await log.readShardBack(shard, written[2]?.position ?? "", 2);
    expect(further).toEqual(written.slice(3));
  });

  test("keeps streams apart, even where one's name begins with the other's", async () => {
    const log = logOf();
    const id = newId();
    await log.append(conversationStream(id), 0, [added(id, 1)]);
    await log.append(conversationStream(`${id}-longer`), 0, [added(`${id}-longer`, 1)]);
    expect(await log.read(conversationStream(id))).toHaveLength(1);
  });

  test("keeps every character of the text", async () => {
    const log = logOf();
    const id = newId();
    const title = `naïve 😀 \u0000 \u2028 "quoted" \\ ${"\n\t"}`;
    const event: ConversationEvent = {
      type: "ConversationStarted",
      version: 1,
      at: 1,
      conversationId: id,
      tenantId: "acme",
      title,
    };
    await log.append(conversationStream(id), 0, [event]);
    expect((await log.read(conversationStream(id)))[0]?.events).toEqual([event]);
  });

  test("refuses a version that is written already, and names it", async () => {
    const log = logOf();
    const id = newId();
    const stream = conversationStream(id);
    await log.append(stream, 0, [added(id, 1)]);
    const conflict = log.append(stream, 0, [added(id, 9)]);
    await expect(conflict).rejects.toBeInstanceOf(VersionConflict);
    await expect(conflict).rejects.toMatchObject({ stream, version: 1 });
    expect((await log.read(stream)).flatMap((commit) => commit.events)).toEqual([added(id, 1)]);
  });

  test("lets exactly one of many writers have a version", async () => {
    const log = logOf();
    const id = newId();
    const stream = conversationStream(id);
    for (let version = 0; version < 5; version++) {
      const attempts = Array.from({ length: 20 }, (_, i) =>
        log.append(stream, version, [added(id, i + 1)]),
      );
      const results = await Promise.allSettled(attempts);
      const won = results.filter((result) => result.status === "fulfilled");
      const lost = results.filter((result) => result.status === "rejected");
      expect(won).toHaveLength(1);
      expect(lost.every(({ reason }) => reason instanceof VersionConflict)).toBe(true);
      expect((await log.read(stream)).at(-1)).toEqual(won[0]?.value);
    }
    expect((await log.read(stream)).map((commit) => commit.version)).toEqual([1, 2, 3, 4, 5]);
  });

  test("sees each append that has returned", async () => {
    const log = logOf();
    const id = newId();
    const stream = conversationStream(id);
    for (let version = 0; version < 25; version++) {
      await log.append(stream, version, [added(id, version + 1)]);
      expect(await log.read(stream)).toHaveLength(version + 1);
    }
  });

  test("reads a long stream to its end, in order", async () => {
    const log = logOf();
    const id = newId();
    const stream = conversationStream(id);
    // 30 commits of 60 KB are more than the megabyte that one page of a query holds.
    const turnId = "x".repeat(60_000);
    for (let version = 0; version < 30; version++) {
      await log.append(stream, version, [{ ...added(id, version + 1), turnId }]);
    }
    const versions = (await log.read(stream)).map((commit) => commit.version);
    expect(versions).toEqual(Array.from({ length: 30 }, (_, i) => i + 1));
  });

  test("gives a shard's commits in the order of their positions, page by page", async () => {
    const log = logOf();
    const ids = Array.from({ length: 24 }, newId);
    const written = [];
    for (const id of ids) written.push(await log.append(conversationStream(id), 0, [added(id, 1)]));
    for (const id of ids) written.push(await log.append(conversationStream(id), 1, [added(id, 2)]));

    for (let shard = 0; shard < logShards; shard++) {
      const expected = written.filter((commit) => shardOf(commit.stream) === shard);
      expect(expected.length).toBeGreaterThan(0);
      let after = written[0] === undefined ? "" : before(written[0].position);
      const read = [];
      for (;;) {
        const page = await log.readShard(shard, after, 5);
        expect(page.length).toBeLessThanOrEqual(5);
        read.push(...page);
        after = page.at(-1)?.position ?? after;
        if (page.length < 5) break;
      }
      expect(read.filter(({ stream }) => ids.some((id) => stream.endsWith(id)))).toEqual(expected);
      expect(read.map(({ position }) => position).toSorted()).toEqual(
        read.map(({ position }) => position),
      );
    }
  });

  test("fills a page, however large its commits are", async () => {
    const log = logOf();
    const id = newId();
    const stream = conversationStream(id);
    const turnId = "x".repeat(120_000);
    const first = await log.append(stream, 0, [added(id, 1)]);
    for (let version = 1; version < 12; version++) {
      await log.append(stream, version, [{ ...added(id, version + 1), turnId }]);
    }
    const shard = shardOf(stream);
    const versions = Array.from({ length: 11 }, (_, i) => i + 2);
    const later = await log.readShard(shard, first.position, 11);
    expect(later.map(({ version }) => version)).toEqual(versions);
    const back = await log.readShardBack(shard, "", 11);
    expect(back.map(({ version }) => version)).toEqual(versions.toReversed());
  });

  test("reads a shard from its start, and nothing after its end", async () => {
    const log = logOf();
    const id = newId();
    const { position } = await log.append(conversationStream(id), 0, [added(id, 1)]);
    const shard = shardOf(conversationStream(id));
    expect((await log.readShard(shard, "", 1)).length).toBe(1);
    expect(await log.readShard(shard, position, 100)).toEqual([]);
  });
}

/** A position below the given one and above those of earlier milliseconds. */
const before = (position: string): string => position.slice(0, 10);
