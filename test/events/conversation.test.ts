import { describe, expect, test } from "vitest";
import { type ConversationCommand, conversation } from "../../events/conversation.ts";
import type { ConversationEvent } from "../../events/conversation-events.ts";
import { scenarios } from "./scenario.ts";

const { given } = scenarios(conversation);

const add: ConversationCommand = {
  type: "AddTurn",
  at: 10,
  conversationId: "c1",
  tenantId: "acme",
  turnId: "t1",
  prompt: "Hello",
  mustExist: false,
  runningTurnId: undefined,
};
const started: ConversationEvent = {
  type: "ConversationStarted",
  version: 1,
  at: 10,
  conversationId: "c1",
  tenantId: "acme",
  title: "Hello",
};
const added = (turnId: string, ordinal: number): ConversationEvent => ({
  type: "TurnAdded",
  version: 1,
  at: 10,
  conversationId: "c1",
  turnId,
  ordinal,
});

describe("AddTurn", () => {
  test("starts a conversation with its first turn", () => {
    given().when(add).then(started, added("t1", 1));
  });

  test("adds the next turn behind the others", () => {
    given(started, added("t1", 1))
      .when({ ...add, turnId: "t2", mustExist: true })
      .then(added("t2", 2));
  });

  test("says nothing about a turn that is there, even while another runs", () => {
    given(started, added("t1", 1)).when(add).thenNothing();
    given(started, added("t1", 1), added("t2", 2))
      .when({ ...add, runningTurnId: "t2" })
      .thenNothing();
  });

  test("waits for the turn that runs", () => {
    given(started, added("t1", 1))
      .when({ ...add, turnId: "t2", runningTurnId: "t1" })
      .thenRefused("conversation_busy", "conversationId");
  });

  test("finds no conversation where the client named one that is not there", () => {
    given()
      .when({ ...add, mustExist: true })
      .thenRefused("conversation_not_found", "conversationId");
  });

  test("finds no conversation of another tenant, not even one with that very turn", () => {
    given(started, added("t1", 1))
      .when({ ...add, tenantId: "rival" })
      .thenRefused("conversation_not_found", "conversationId");
  });
});

describe("the title", () => {
  const titleOf = (prompt: string) => {
    const [event] = conversation.decide({ ...add, prompt }, { status: "none" });
    return event?.type === "ConversationStarted" ? event.title : undefined;
  };

  test.each([
    ["the first line", "  What is a turn?  \n\nPlease explain.", "What is a turn?"],
    ["without blanks before its end", "What is a turn? \t\r\nPlease explain.", "What is a turn?"],
    ["all of 80 characters", "x".repeat(80), "x".repeat(80)],
    ["cut at a word", `${"word ".repeat(20)}end`, `${"word ".repeat(15).trim()}…`],
    ["cut within a word that is too long", "y".repeat(100), `${"y".repeat(79)}…`],
    ["never within a character", "😀".repeat(100), `${"😀".repeat(79)}…`],
  ])("is %s", (_, prompt, title) => {
    expect(titleOf(prompt)).toBe(title);
  });

  test("takes no time to speak of, whatever the prompt is made of", () => {
    const before = performance.now();
    expect(titleOf(`Why ${" ".repeat(180_000)}?`)).toBe("Why…");
    expect(performance.now() - before).toBeLessThan(1_000);
  });
});
