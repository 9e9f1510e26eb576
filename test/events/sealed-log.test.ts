import { randomBytes } from "node:crypto";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type * as z from "zod";
import {
  conversationErasedSchema,
  conversationStartedSchema,
  turnAddedSchema,
} from "../../events/conversation-events.ts";
import { dynamoDbKeyRegister } from "../../events/data-key-register.ts";
import { cachedDataKeys, type DataKey, type DataKeys } from "../../events/data-keys.ts";
import { dynamoDbDataKeys } from "../../events/data-keys-dynamodb.ts";
import type { DomainEvent } from "../../events/event-catalog.ts";
import { conversationStream, type EventLog, shardOf, turnStream } from "../../events/event-log.ts";
import { dynamoDbEventLog } from "../../events/event-log-dynamodb.ts";
import { memoryEventLog } from "../../events/event-log-memory.ts";
import { sealedEventLog } from "../../events/event-log-sealed.ts";
import { open, seal } from "../../events/sealing.ts";
import {
  turnCancelledSchema,
  turnCancelRequestedSchema,
  turnCompletedSchema,
  turnFailedSchema,
  turnRequestedSchema,
  turnStartedSchema,
  turnTakenOverSchema,
} from "../../events/turn-events.ts";
import { awsClientConfig, freshKeyTable, freshTable } from "../support/parts.ts";
import { eventLogContract } from "./event-log.contract.ts";

const at = 1_700_000_000_000;
const usage = { promptTokens: 3, completionTokens: 4 };
const timings = { queuedMs: 1, firstTokenMs: 2, totalMs: 3 };

type Event<Type> = Extract<DomainEvent, { type: Type }>;

function asked(id: string): Event<"TurnRequested"> {
  return {
    ...{ type: "TurnRequested", version: 1, at, turnId: `t-${id}`, conversationId: id },
    ...{ tenantId: "acme", model: "m", revision: "m-1", prompt: "the secret of Ada" },
    context: [{ role: "system", content: "You answer Ada." }],
    sampling: {
      ...{ maxTokens: 9, temperature: 1, topK: 1, topP: 1, minP: 0, repetitionPenalty: 1 },
      ...{ stop: ["Ada:"], seed: 7 },
    },
    ...{ priority: "interactive", correlationId: "c" },
  };
}
const started = (id: string): Event<"ConversationStarted"> => ({
  ...{ type: "ConversationStarted", version: 1, at, conversationId: id, tenantId: "acme" },
  title: "the title of Ada",
});
const completed = (id: string): Event<"TurnCompleted"> => ({
  ...{ type: "TurnCompleted", version: 1, at, turnId: `t-${id}`, epoch: 1, usage, timings },
  ...{ text: "the answer to Ada", finishReason: "stop" },
});
const failed = (id: string): Event<"TurnFailed"> => ({
  ...{ type: "TurnFailed", version: 1, at, turnId: `t-${id}`, epoch: 1, usage },
  ...{ text: "half an answer to Ada", code: "engine", message: "cannot read Ada" },
});

let client: DynamoDBClient;
let keyTable: string;
let stored: EventLog;
beforeAll(async () => {
  client = new DynamoDBClient(awsClientConfig("dynamodb"));
  keyTable = await freshKeyTable();
  stored = dynamoDbEventLog(client, await freshTable());
});
afterAll(() => client.destroy());

const sealed = (keys: DataKeys = dynamoDbDataKeys(client, keyTable)) =>
  sealedEventLog(stored, keys);

describe("the sealed event log", () => {
  eventLogContract(() => sealed());

  test("is plain for who reads through it, and holds no word for anybody else", async () => {
    const log = sealed();
    const events = [asked("a")];
    await log.append(conversationStream("a"), 0, [started("a")]);
    expect(await log.append(turnStream("t-a"), 0, events)).toMatchObject({ events });
    await log.append(turnStream("t-a"), 1, [completed("a")]);
    // Somebody who has not written any of it.
    const reader = sealed();
    const read = await reader.read(turnStream("t-a"));
    expect(read.flatMap((commit) => commit.events)).toEqual([...events, completed("a")]);
    const shard = await reader.readShard(shardOf(turnStream("t-a")), read[0]?.position ?? "", 100);
    expect(shard.flatMap((commit) => commit.events)).toContainEqual(completed("a"));

    const kept = [
      ...(await stored.read(conversationStream("a"))),
      ...(await stored.read(turnStream("t-a"))),
    ];
    expect(JSON.stringify(kept)).not.toContain("Ada");
    expect(await reader.open(kept)).toEqual(await reader.open(await reader.open(kept)));
    expect((await reader.open(kept))[0]?.events).toEqual([started("a")]);
  });

  test("finds the conversation of an end that it did not see begin", async () => {
    await sealed().append(turnStream("t-b"), 0, [asked("b")]);
    await sealed().append(turnStream("t-b"), 1, [failed("b")]);
    expect((await sealed().read(turnStream("t-b")))[1]?.events).toEqual([failed("b")]);
    expect(JSON.stringify(await stored.read(turnStream("t-b")))).not.toContain("Ada");
  });

  test("reads what was written before there were keys", async () => {
    await stored.append(turnStream("t-old"), 0, [asked("old")]);
    await sealed().append(turnStream("t-old"), 1, [completed("old")]);
    const read = await sealed().read(turnStream("t-old"));
    expect(read.flatMap((commit) => commit.events)).toEqual([asked("old"), completed("old")]);
  });

  test("shows and keeps no word of a conversation whose key was destroyed", async () => {
    await sealed().append(conversationStream("d"), 0, [started("d")]);
    await sealed().append(turnStream("t-d"), 0, [asked("d")]);
    await dynamoDbKeyRegister(client, keyTable).destroy("d", at);
    const commit = await sealed().append(turnStream("t-d"), 1, [completed("d")]);
    expect(commit.events).toEqual([{ ...completed("d"), text: "", erased: true }]);
    const [first, second] = await sealed().read(turnStream("t-d"));
    expect(first?.events).toMatchObject([{ prompt: "", sampling: { stop: [] }, erased: true }]);
    expect(first?.events).not.toMatchObject([{ context: expect.anything() }]);
    expect(second?.events).toMatchObject([{ text: "", usage, timings, erased: true }]);
    expect(JSON.stringify(await stored.read(turnStream("t-d")))).not.toContain("Ada");
  });

  test("says which key is missing, where one was lost", async () => {
    await sealed().append(turnStream("t-e"), 0, [asked("e")]);
    const empty = dynamoDbDataKeys(client, await freshKeyTable());
    await expect(sealed(empty).read(turnStream("t-e"))).rejects.toThrow(/turn\/t-e .* key of e,/);
  });

  test("two who write a conversation's first words at once seal with one key", async () => {
    const streams = ["t-f1", "t-f2", "t-f3", "t-f4"];
    await Promise.all(
      streams.map((id) => sealed().append(turnStream(id), 0, [{ ...asked("f"), turnId: id }])),
    );
    for (const id of streams) {
      expect((await sealed().read(turnStream(id)))[0]?.events).toMatchObject([
        { prompt: "the secret of Ada" },
      ]);
    }
  });
});

describe("a seal", () => {
  const place = { stream: "turn/t", version: 2, index: 0 };
  const key = randomBytes(32);
  const kept = seal(completed("s"), place, "s", key) as ReturnType<typeof completed>;

  test.each([
    ["in another stream", { ...place, stream: "turn/u" }, key],
    ["at another version", { ...place, version: 3 }, key],
    ["at another place of its commit", { ...place, index: 1 }, key],
    ["with another key", place, randomBytes(32)],
  ])("does not open %s", (_, where, other) => {
    expect(() => open(kept, where, other)).toThrow(/cannot be opened/);
    expect(open(kept, place, key)).toEqual(completed("s"));
  });

  test("is another one each time", () => {
    expect(seal(completed("s"), place, "s", key)).not.toEqual(kept);
  });
});

/**
 * Each text of each event about conversations and turns is either sealed, or named here as a fact. Whoever adds
 * one decides which.
 */
test("no event keeps a text that nobody has thought of", () => {
  const words = new Set(["title", "prompt", "text", "message"]);
  const facts = new Set(
    "conversationId tenantId turnId model revision correlationId groupId leaderId code".split(" "),
  );
  const schemas = [
    ...[conversationStartedSchema, turnAddedSchema, conversationErasedSchema, turnRequestedSchema],
    ...[turnStartedSchema, turnTakenOverSchema, turnCancelRequestedSchema, turnCompletedSchema],
    ...[turnCancelledSchema, turnFailedSchema],
  ];
  for (const { shape } of schemas) {
    const texts = Object.entries(shape as Record<string, z.ZodType>)
      .filter(([, field]) => field.def.type === "string")
      .map(([name]) => name);
    expect(texts.filter((name) => !words.has(name) && !facts.has(name))).toEqual([]);
    const hasText = texts.some((name) => words.has(name));
    expect(Object.hasOwn(shape, "sealed"), shape.type.value).toBe(hasText);
  }
});

describe("cached keys", () => {
  function counting() {
    let asks = 0;
    const answers = new Map<string, DataKey>([["c", randomBytes(32)]]);
    const keys: DataKeys = {
      forWriting: async ({ conversationId }) => {
        asks++;
        return answers.get(conversationId) ?? randomBytes(32);
      },
      find: async (ids) => {
        asks++;
        return new Map(ids.flatMap((id) => [[id, answers.get(id) ?? "erased"] as const]));
      },
    };
    return { keys, answers, asks: () => asks };
  }

  test("are asked for once, and again when their time is over", async () => {
    const { keys, answers, asks } = counting();
    let now = 0;
    const cached = cachedDataKeys(keys, { ttlMs: 100, now: () => now });
    const first = await cached.forWriting({ conversationId: "c", tenantId: "acme" });
    expect((await cached.find(["c"])).get("c")).toBe(first);
    expect(asks()).toBe(1);
    answers.delete("c");
    now = 99;
    expect((await cached.find(["c"])).get("c")).toBe(first);
    now = 100;
    expect((await cached.find(["c"])).get("c")).toBe("erased");
    now = 10_000;
    expect(await cached.forWriting({ conversationId: "c", tenantId: "acme" })).toBe("erased");
    expect(asks()).toBe(2);
  });

  test("that are forgotten are asked for again", async () => {
    const { keys, answers } = counting();
    const cached = cachedDataKeys(keys);
    await cached.find(["c"]);
    answers.delete("c");
    cached.forget("c");
    expect((await cached.find(["c"])).get("c")).toBe("erased");
  });

  test("hold on to no more than they may", async () => {
    const { keys, asks } = counting();
    const cached = cachedDataKeys(keys);
    await cached.find(["c"]);
    await cached.find(Array.from({ length: 10_001 }, (_, i) => `other-${i}`));
    await cached.find(["c"]);
    expect(asks()).toBe(3);
  });
});

test("the memory's log can be sealed as well", async () => {
  const inner = memoryEventLog();
  const log = sealedEventLog(inner, dynamoDbDataKeys(client, keyTable));
  await log.append(conversationStream("m"), 0, [started("m")]);
  expect(JSON.stringify(await inner.read(conversationStream("m")))).not.toContain("Ada");
  expect((await log.read(conversationStream("m")))[0]?.events).toEqual([started("m")]);
});
