import { describe, expect, test } from "vitest";
import {
  type ChatAction,
  type ChatState,
  chatReducer,
  initialChatState,
  isRunning,
  newThread,
  problemOf,
  waitingFor,
} from "../../web/chat-state.ts";
import type { RecordedTurn } from "../../web/history-api.ts";
import { conversationAddress, operationsAddress, parseRoute } from "../../web/route.ts";

const step = (...actions: ChatAction[]): ChatState => actions.reduce(chatReducer, initialChatState);

const asked = { type: "asked", thread: newThread, key: "k", prompt: "What is a lease?" } as const;
const acceptedAction: ChatAction = {
  type: "accepted",
  ...{ key: "k", turnId: "turn_1", conversationId: "conv_1" },
  ...{ revision: "m-1", queuePosition: undefined, warmingMs: undefined, at: 2 },
};
const doneFacts = {
  ...{ lastSeq: 11, epoch: 1, finishReason: "stop" as const },
  usage: { promptTokens: 3, completionTokens: 11 },
  timings: { queuedMs: 2, firstTokenMs: 8, totalMs: 1_008 },
};

describe("a turn", () => {
  test("is shown from the moment it is asked", () => {
    const state = step(asked);
    expect(state.threads[newThread]).toEqual({ status: "ready", turnKeys: ["k"] });
    expect(isRunning(state.turns["k"])).toBe(true);
  });

  test("gives a new chat its id, its place on top of the list, and a title", () => {
    const old = { id: "conv_0", title: "Old", updatedAt: 1 };
    const page: ChatAction = { type: "conversations", page: [old], next: null, append: false };
    const state = step(page, asked, acceptedAction);
    expect(state.threads).toEqual({ conv_1: { status: "ready", turnKeys: ["k"] } });
    expect(state.conversations.map(({ id }) => id)).toEqual(["conv_1", "conv_0"]);
    expect(state.conversations[0]?.title).toBe("What is a lease?");
  });

  test("says what it waits for until it has something to say", () => {
    const hintOf = (...actions: ChatAction[]) => {
      const turn = step(...actions).turns["k"];
      return turn && waitingFor(turn);
    };
    const waking: ChatAction = { ...acceptedAction, queuePosition: 2, warmingMs: 39_200 };
    expect(hintOf(asked)).toBeUndefined();
    expect(hintOf(asked, acceptedAction)).toBeUndefined();
    expect(hintOf(asked, { ...acceptedAction, queuePosition: 3 })).toBe("Number 3 in the queue");
    expect(hintOf(asked, waking)).toBe("Waking the model, about 40 s");
    expect(hintOf(asked, { ...waking, warmingMs: 300_000 })).toBe("Waking the model, about 5 min");
    const said: ChatAction = { type: "text", key: "k", text: "A" };
    expect(hintOf(asked, waking, said)).toBeUndefined();
    const ended: ChatAction = { type: "ended", key: "k", done: doneFacts };
    expect(hintOf(asked, waking, ended)).toBeUndefined();
    expect(step(asked, waking, ended).turns["k"]).toMatchObject({ warmingMs: undefined });
  });

  test("grows, can be taken back, and ends with its figures", () => {
    const state = step(
      ...[asked, acceptedAction],
      { type: "text", key: "k", text: "A promise" },
      { type: "text", key: "k", text: " kept" },
      { type: "rewound", key: "k", text: "A" },
      { type: "text", key: "k", text: " lease" },
      { type: "ended", key: "k", done: doneFacts, firstTokenMs: 25 },
    );
    expect(state.turns["k"]).toMatchObject({
      ...{ answer: "A lease", status: "completed" },
      figures: { tokens: 11, tokensPerSecond: 10, firstTokenMs: 25 },
    });
  });

  test("that was stopped keeps what was said", () => {
    const done = { ...doneFacts, finishReason: "cancelled" as const };
    const text = { type: "text", key: "k", text: "Half" } as const;
    const state = step(asked, acceptedAction, text, { type: "ended", key: "k", done });
    expect(state.turns["k"]).toMatchObject({ answer: "Half", status: "cancelled" });
  });

  test("that was refused says why", () => {
    const error = { message: "Too long.", retryable: false };
    const state = step(asked, { type: "failed", key: "k", error });
    expect(state.turns["k"]).toMatchObject({ status: "failed", error });
  });
});

describe("the record", () => {
  const turn: RecordedTurn = {
    ...{ id: "turn_9", model: "m", revision: "m-1", prompt: "Hi", error: null },
    ...{ status: "completed", answer: "Hello.", finishReason: "stop" },
    ...{ usage: doneFacts.usage, timings: doneFacts.timings },
  };

  test("fills a thread", () => {
    const state = step({ type: "threadLoaded", thread: "conv_9", turns: [turn] });
    expect(state.threads["conv_9"]).toEqual({ status: "ready", turnKeys: ["turn_9"] });
    expect(state.turns["turn_9"]).toMatchObject({ answer: "Hello.", status: "completed" });
  });

  test("of a turn that runs starts with an empty answer, to be resumed", () => {
    const running: RecordedTurn = { ...turn, status: "running", answer: null };
    const state = step({ type: "threadLoaded", thread: "c", turns: [running] });
    expect(state.turns["turn_9"]).toMatchObject({ answer: "", status: "running" });
  });

  test("that there is none is said", () => {
    const state = step({ type: "threadLoaded", thread: "c", turns: undefined });
    expect(state.threads["c"]?.status).toBe("missing");
  });

  test("does not push a conversation off the list that it does not have yet", () => {
    const page: ChatAction = { type: "conversations", page: [], next: null, append: false };
    expect(step(asked, acceptedAction, page).conversations).toHaveLength(1);
  });

  test("comes in pages", () => {
    const of = (id: string, updatedAt: number) => ({ id, title: id, updatedAt });
    const state = step(
      { type: "conversations", page: [of("b", 2)], next: "cursor", append: false },
      { type: "conversations", page: [of("a", 1)], next: null, append: true },
    );
    expect(state.conversations.map(({ id }) => id)).toEqual(["b", "a"]);
    expect(state.next).toBeNull();
  });
});

test("a failure is told in the server's words, and an erased conversation in the page's", () => {
  const busy = { code: "too_busy", message: "Too many wait. Try again.", retryable: true };
  expect(problemOf(busy)).toEqual({ message: busy.message, retryable: true });
  const gone = {
    code: "conversation_not_found",
    message: "Leave conversationId out.",
    retryable: false,
  };
  expect(problemOf(gone)).toEqual({
    message: "This conversation is not there any more. Start a new chat.",
    retryable: false,
  });
});

test("an address names a conversation, a new chat, or the operations page", () => {
  expect(parseRoute(conversationAddress("conv_1"))).toEqual({
    ...{ view: "chat", conversationId: "conv_1" },
  });
  for (const hash of ["", "#/", "#/c/", "#/c/<script>", "#/opsy"]) {
    expect(parseRoute(hash)).toEqual({ view: "chat", conversationId: undefined });
  }
  for (const hash of [operationsAddress, "#/ops/", "#/ops/turns?status=open"]) {
    expect(parseRoute(hash)).toEqual({ view: "ops", hash });
  }
});
