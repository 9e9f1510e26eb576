import type { ConnectionState } from "../client/client.ts";
import type { AxonClientError } from "../client/errors.ts";
import type { DoneFrame } from "../events/frames.ts";
import type { ConversationSummary, RecordedTurn } from "./history-api.ts";

/**
 * What the chat page knows. A turn is kept under a key of its own from the moment it is asked, since
 * it has no id until it is accepted; a thread lists its turns by key. Threads that stream go on while
 * another one is shown.
 */
export interface ChatState {
  connection: ConnectionState;
  conversations: ConversationSummary[];
  /** Cursor of the next page of conversations; null at the end. */
  next: string | null;
  /** By conversation id; `newThread` until it has one. */
  threads: Record<string, Thread>;
  turns: Record<string, TurnView>;
}

export interface Thread {
  status: "loading" | "ready" | "missing";
  turnKeys: string[];
}

export interface TurnView {
  key: string;
  turnId: string | undefined;
  prompt: string;
  answer: string;
  status: "sending" | "running" | "completed" | "cancelled" | "failed";
  revision: string | undefined;
  error: { message: string; retryable: boolean } | undefined;
  /** Its place among those that wait, when it was accepted. */
  queuePosition: number | undefined;
  /** How long the model was to take to wake up, when it was accepted, ms. */
  warmingMs: number | undefined;
  figures: Figures | undefined;
}

/** What the line under an answer says. */
interface Figures {
  tokens: number;
  tokensPerSecond: number | undefined;
  firstTokenMs: number;
}

export const newThread = "new";

export type ChatAction =
  | { type: "connection"; state: ConnectionState }
  | { type: "conversations"; page: ConversationSummary[]; next: string | null; append: boolean }
  | { type: "threadLoading"; thread: string }
  | { type: "threadLoaded"; thread: string; turns: RecordedTurn[] | undefined }
  | { type: "asked"; thread: string; key: string; prompt: string }
  | {
      type: "accepted";
      key: string;
      turnId: string;
      conversationId: string;
      revision: string;
      queuePosition: number | undefined;
      warmingMs: number | undefined;
      at: number;
    }
  | { type: "text"; key: string; text: string }
  | { type: "rewound"; key: string; text: string }
  | { type: "ended"; key: string; done: Omit<DoneFrame, "turnId" | "type">; firstTokenMs?: number }
  | { type: "failed"; key: string; error: { message: string; retryable: boolean } };

export const initialChatState: ChatState = {
  connection: "idle",
  conversations: [],
  next: null,
  threads: {},
  turns: {},
};

export function chatReducer(state: ChatState, action: ChatAction): ChatState {
  switch (action.type) {
    case "connection":
      return { ...state, connection: action.state };
    case "conversations":
      return withConversations(state, action);
    case "threadLoading":
      return withThread(state, action.thread, { status: "loading", turnKeys: [] });
    case "threadLoaded":
      return withRecord(state, action.thread, action.turns);
    case "asked":
      return withQuestion(state, action);
    case "accepted":
      return withAcceptance(state, action);
    case "text":
      return withTurn(state, action.key, (turn) => ({
        status: "running",
        answer: turn.answer + action.text,
      }));
    case "rewound":
      return withTurn(state, action.key, () => ({ answer: action.text }));
    case "ended":
      return withTurn(state, action.key, () => ({
        status: statusOf(action.done.finishReason),
        ...{ queuePosition: undefined, warmingMs: undefined },
        figures: figuresOf(action.done, action.firstTokenMs),
        error: action.done.error && { message: action.done.error.message, retryable: true },
      }));
    case "failed":
      return withTurn(state, action.key, () => ({ status: "failed", error: action.error }));
  }
}

/** What the page says of a failure: the server's words, but for those that are meant for programs. */
export function problemOf({ code, message, retryable }: Failure): NonNullable<TurnView["error"]> {
  const isGone = code === "conversation_not_found";
  return {
    message: isGone ? "This conversation is not there any more. Start a new chat." : message,
    retryable,
  };
}

type Failure = Pick<AxonClientError, "code" | "message" | "retryable">;

/** What a turn waits for that has said nothing yet; undefined where it is not known to wait. */
export function waitingFor(turn: TurnView): string | undefined {
  if (!isRunning(turn) || turn.answer !== "") return undefined;
  const { queuePosition, warmingMs } = turn;
  if (warmingMs !== undefined) return `Waking the model, about ${durationText(warmingMs)}`;
  return queuePosition === undefined ? undefined : `Number ${queuePosition} in the queue`;
}

function durationText(ms: number): string {
  const seconds = Math.max(1, Math.ceil(ms / 1_000));
  return seconds < 120 ? `${seconds} s` : `${Math.ceil(seconds / 60)} min`;
}

export function isRunning(turn: TurnView | undefined): boolean {
  return turn?.status === "sending" || turn?.status === "running";
}

function withTurn(
  state: ChatState,
  key: string,
  change: (turn: TurnView) => Partial<TurnView>,
): ChatState {
  const turn = state.turns[key];
  if (turn === undefined) return state;
  return { ...state, turns: { ...state.turns, [key]: { ...turn, ...change(turn) } } };
}

function withThread(state: ChatState, id: string, thread: Thread): ChatState {
  return { ...state, threads: { ...state.threads, [id]: thread } };
}

/** A conversation that has just been started may not be recorded yet: it stays on top of the list. */
function withConversations(
  state: ChatState,
  { page, next, append }: Extract<ChatAction, { type: "conversations" }>,
): ChatState {
  const known = new Set(page.map((conversation) => conversation.id));
  const newest = page[0]?.updatedAt ?? 0;
  const kept = state.conversations.filter(
    (conversation) => !known.has(conversation.id) && (append || conversation.updatedAt > newest),
  );
  return { ...state, next, conversations: [...kept, ...page] };
}

function withRecord(
  state: ChatState,
  threadId: string,
  recorded: RecordedTurn[] | undefined,
): ChatState {
  if (recorded === undefined) {
    return withThread(state, threadId, { status: "missing", turnKeys: [] });
  }
  const turns = Object.fromEntries(recorded.map((turn) => [turn.id, turnFromRecord(turn)]));
  const thread: Thread = { status: "ready", turnKeys: recorded.map((turn) => turn.id) };
  return withThread({ ...state, turns: { ...state.turns, ...turns } }, threadId, thread);
}

function turnFromRecord(turn: RecordedTurn): TurnView {
  const { id, prompt, status, revision, usage, timings, error } = turn;
  const hasEnded = status !== "requested" && status !== "running";
  return {
    ...{ key: id, turnId: id, prompt, revision },
    answer: hasEnded ? (turn.answer ?? "") : "",
    status: hasEnded ? status : "running",
    error: error === null ? undefined : { message: error.message, retryable: true },
    ...{ queuePosition: undefined, warmingMs: undefined },
    figures: usage && timings ? figuresOf({ usage, timings }) : undefined,
  };
}

function withQuestion(
  state: ChatState,
  { thread, key, prompt }: Extract<ChatAction, { type: "asked" }>,
): ChatState {
  const turn: TurnView = {
    ...{ key, prompt, turnId: undefined, answer: "", status: "sending" },
    ...{ revision: undefined, error: undefined, figures: undefined },
    ...{ queuePosition: undefined, warmingMs: undefined },
  };
  const before = state.threads[thread]?.turnKeys ?? [];
  const asked = { ...state, turns: { ...state.turns, [key]: turn } };
  return withThread(asked, thread, { status: "ready", turnKeys: [...before, key] });
}

/** A new chat gets its id: its thread moves there, and it appears in the list. */
function withAcceptance(
  state: ChatState,
  action: Extract<ChatAction, { type: "accepted" }>,
): ChatState {
  const { key, turnId, conversationId, revision, queuePosition, warmingMs, at } = action;
  const facts = { turnId, revision, queuePosition, warmingMs, status: "running" } as const;
  const accepted = withTurn(state, key, () => facts);
  const fresh = state.threads[newThread];
  const threads = { ...accepted.threads };
  if (fresh?.turnKeys.includes(key)) {
    threads[conversationId] = fresh;
    delete threads[newThread];
  }
  const known = state.conversations.find((conversation) => conversation.id === conversationId);
  const title = known?.title ?? titleOf(state.turns[key]?.prompt ?? "");
  const conversations = [
    { id: conversationId, title, updatedAt: at },
    ...state.conversations.filter((conversation) => conversation.id !== conversationId),
  ];
  return { ...accepted, threads, conversations };
}

function titleOf(prompt: string): string {
  const line = prompt.trim().split("\n")[0] ?? "";
  return line.length > 80 ? `${line.slice(0, 79)}…` : line;
}

function statusOf(reason: DoneFrame["finishReason"]): TurnView["status"] {
  if (reason === "cancelled" || reason === "failed") return reason;
  return "completed";
}

function figuresOf(
  { usage, timings }: Pick<DoneFrame, "usage" | "timings">,
  firstTokenMs = timings.queuedMs + timings.firstTokenMs,
): Figures {
  const tokens = usage.completionTokens;
  const seconds = (timings.totalMs - timings.firstTokenMs) / 1_000;
  return {
    tokens,
    tokensPerSecond: tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : undefined,
    firstTokenMs,
  };
}
