import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { turnStream } from "../../events/event-log.ts";
import { turnIdFor } from "../../events/ids.ts";
import { chat } from "../../functions/chat.ts";
import { report } from "../../functions/report.ts";
import {
  context,
  endReport,
  eventTypes,
  queueEvent,
  reportsEvent,
  type Stage,
  socketEvent,
  startedReport,
  startStage,
} from "./stage.ts";

let stage: Stage;
beforeAll(async () => {
  stage = await startStage();
});
afterAll(() => stage.close());

async function newTurn(): Promise<string> {
  const requestId = randomUUID();
  const frame = { action: "chat", requestId, prompt: "Hello" };
  await chat(stage.deps)(socketEvent(await stage.open("acme"), frame), context);
  return turnIdFor("acme", requestId);
}

const handle = (event: Parameters<ReturnType<typeof report>>[0]) =>
  report(stage.deps)(event, context);
const typesOf = async (turnId: string) => eventTypes(await stage.deps.log.read(turnStream(turnId)));
const none = { batchItemFailures: [] };

describe("report", () => {
  test("writes down a turn's life", async () => {
    const turnId = await newTurn();
    expect(await handle(reportsEvent(startedReport(turnId)))).toEqual(none);
    expect(await handle(reportsEvent(endReport(turnId, "Hello there.")))).toEqual(none);
    const commits = await stage.deps.log.read(turnStream(turnId));
    expect(eventTypes(commits)).toEqual(["TurnRequested", "TurnStarted", "TurnCompleted"]);
    expect(commits.at(-1)?.events).toMatchObject([
      { text: "Hello there.", finishReason: "stop", epoch: 1, usage: { completionTokens: 2 } },
    ]);
  });

  test("does not mind duplicates", async () => {
    const turnId = await newTurn();
    const life = [startedReport(turnId), endReport(turnId, "Hi.")];
    expect(await handle(reportsEvent(...life, ...life))).toEqual(none);
    expect(await handle(reportsEvent(...life))).toEqual(none);
    expect(await typesOf(turnId)).toEqual(["TurnRequested", "TurnStarted", "TurnCompleted"]);
  });

  test("does not mind the wrong order: the end implies the start", async () => {
    const turnId = await newTurn();
    const event = reportsEvent(endReport(turnId, "Hi."), startedReport(turnId));
    expect(await handle(event)).toEqual(none);
    expect(await typesOf(turnId)).toEqual(["TurnRequested", "TurnStarted", "TurnCompleted"]);
  });

  test("hears nothing from a leader that has lost the turn", async () => {
    const turnId = await newTurn();
    const event = reportsEvent(
      startedReport(turnId, 1),
      startedReport(turnId, 2),
      endReport(turnId, "Old.", "completed", 1),
      endReport(turnId, "New.", "completed", 2),
      endReport(turnId, "Late.", "cancelled", 3),
    );
    expect(await handle(event)).toEqual(none);
    const commits = await stage.deps.log.read(turnStream(turnId));
    expect(eventTypes(commits)).toEqual([
      ...["TurnRequested", "TurnStarted", "TurnTakenOver", "TurnCompleted"],
    ]);
    expect(commits.at(-1)?.events).toMatchObject([{ text: "New.", epoch: 2 }]);
  });

  test("writes each fact once when two instances have the same report", async () => {
    const turnId = await newTurn();
    const event = reportsEvent(startedReport(turnId), endReport(turnId, "Hi."));
    const results = await Promise.all(Array.from({ length: 5 }, () => handle(event)));
    expect(results).toEqual(Array(5).fill(none));
    expect(await typesOf(turnId)).toEqual(["TurnRequested", "TurnStarted", "TurnCompleted"]);
  });
});

describe("a batch of reports", () => {
  test("gives back what failed and what follows it in its group, and nothing else", async () => {
    const [good, other] = [await newTurn(), await newTurn()];
    const body = (value: unknown) => JSON.stringify(value);
    const result = await handle(
      queueEvent([
        { group: good, body: body(startedReport(good)) },
        { group: "broken", body: "no JSON" },
        { group: other, body: body({ ...startedReport(other), epoch: 0 }) },
        { group: good, body: body(endReport(good, "Hi.")) },
        { group: other, body: body(endReport(other, "Hi.")) },
        { group: "nobody", body: body(startedReport("turn_nobody")) },
      ]),
    );
    const ids = result.batchItemFailures.map(({ itemIdentifier }) => itemIdentifier).sort();
    expect(ids).toEqual(["2", "3", "5", "6"]);
    expect(await typesOf(good)).toEqual(["TurnRequested", "TurnStarted", "TurnCompleted"]);
    expect(await typesOf(other)).toEqual(["TurnRequested"]);
  });

  test("comes back whole while the log is away, and is written when it is there again", async () => {
    const turnId = await newTurn();
    const event = reportsEvent(startedReport(turnId), endReport(turnId, "Hi."));
    const away = Object.assign(new Error("socket hang up"), { code: "ECONNRESET" });
    const fail = () => Promise.reject(away);
    const log = { read: fail, append: fail, readShard: fail, readShardBack: fail };
    const result = await report({ ...stage.deps, log })(event, context);
    expect(result.batchItemFailures).toHaveLength(2);
    expect(await handle(event)).toEqual(none);
    expect(await typesOf(turnId)).toEqual(["TurnRequested", "TurnStarted", "TurnCompleted"]);
  });
});
