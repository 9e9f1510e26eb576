import { describe, expect, test } from "vitest";
import type { ConversationCommand } from "../../events/conversation.ts";
import type { EventLog } from "../../events/event-log.ts";
import { memoryEventLog } from "../../events/event-log-memory.ts";
import { execute } from "../../functions/lib/execute.ts";
import { conversations, notWritten } from "../../functions/lib/streams.ts";

const add = (turnId: string): ConversationCommand => ({
  type: "AddTurn",
  at: 1,
  conversationId: "c1",
  tenantId: "acme",
  turnId,
  prompt: "Hello",
  mustExist: false,
  runningTurnId: undefined,
});
const run = (log: EventLog, turnId: string) => execute(log, conversations, "c1", () => add(turnId));

describe("execute", () => {
  test("gives the new events, the state after them, and the commit", async () => {
    const log = memoryEventLog();
    const first = await run(log, "t1");
    expect(first.events.map(({ type }) => type)).toEqual(["ConversationStarted", "TurnAdded"]);
    expect(first.state).toMatchObject({ status: "open", turnIds: ["t1"] });
    expect(await log.read("conversation/c1")).toEqual([first.commit]);
  });

  test("writes nothing when the decider has nothing to say", async () => {
    const log = memoryEventLog();
    await run(log, "t1");
    const again = await run(log, "t1");
    expect(again).toMatchObject({ events: [], commit: undefined, state: { turnIds: ["t1"] } });
    expect(await log.read("conversation/c1")).toHaveLength(1);
  });

  test("asks for the command again after a conflict, with the new state", async () => {
    const log = memoryEventLog();
    const seen: number[] = [];
    const { state } = await execute(log, conversations, "c1", async (current) => {
      seen.push(current.version);
      if (seen.length === 1) await run(log, "rival");
      return add("t1");
    });
    expect(seen).toEqual([0, 1]);
    expect(state).toMatchObject({ turnIds: ["rival", "t1"] });
  });

  test("takes a wrong guess of the state for a conflict", async () => {
    const log = memoryEventLog();
    await run(log, "t1");
    const guess = notWritten(conversations);
    const { state } = await execute(log, conversations, "c1", () => add("t2"), guess);
    expect(state).toMatchObject({ turnIds: ["t1", "t2"] });
  });

  test("lets each of many writers in, one after the other", async () => {
    const log = memoryEventLog();
    const turnIds = Array.from({ length: 5 }, (_, i) => `t${i}`);
    await Promise.all(turnIds.map((turnId) => run(log, turnId)));
    const added = (await log.read("conversation/c1")).flatMap(({ events }) => events);
    const turns = added.flatMap((event) => (event.type === "TurnAdded" ? [event] : []));
    expect(turns.map(({ turnId }) => turnId).sort()).toEqual(turnIds);
    expect(turns.map(({ ordinal }) => ordinal)).toEqual([1, 2, 3, 4, 5]);
  });

  test("gives up on a stream that changes all the time, as something to try again", async () => {
    const log = memoryEventLog();
    let attempts = 0;
    const failing = execute(log, conversations, "c1", async () => {
      await run(log, `rival-${attempts++}`);
      return add("t1");
    });
    await expect(failing).rejects.toMatchObject({
      code: "unavailable",
      cause: { name: "VersionConflict" },
    });
    expect(attempts).toBe(8);
  });

  test("does not try again what failed for another reason", async () => {
    const log = { ...memoryEventLog(), append: () => Promise.reject(new Error("no disk")) };
    await expect(run(log, "t1")).rejects.toThrow("no disk");
  });
});
