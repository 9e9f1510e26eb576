import type { ConversationEvent } from "./conversation-events.ts";
import type { Decider } from "./decider.ts";
import { AxonError } from "./errors.ts";
import { limits } from "./limits.ts";

/**
 * The conversation: an ordered list of turns that belong to one tenant.
 *
 *   none   → open   with its first turn.
 *   open   → open   with every further turn, one at a time.
 *   open   → erased for good: it takes no turn, and answers as one that is not there.
 *
 * Two pages that ask in the same moment both write the next version of this stream; the log lets
 * one of them win, and the other is told that the conversation is busy.
 */

/** What the events of `conversation/<id>` add up to. Times are Unix ms. */
export type ConversationState =
  | { status: "none" }
  | {
      status: "open" | "erased";
      tenantId: string;
      /** In the order in which they were added. */
      turnIds: string[];
      lastAddedAt: number;
    };

type Stamp = { at: number; conversationId: string };

type AddTurn = Stamp & {
  type: "AddTurn";
  tenantId: string;
  turnId: string;
  prompt: string;
  /** Where a conversation that this begins comes from, when not from a chat. */
  origin?: "api";
  /** The conversation must exist already: the client named it. */
  mustExist: boolean;
  /** The latest turn, if it has not ended yet. It is looked up by whoever sends the command. */
  runningTurnId: string | undefined;
};

/** `at` is Unix ms. */
export type ConversationCommand =
  | AddTurn
  /** Of a tenant that asks for it; of whichever tenant's, where the operator does. */
  | (Stamp & { type: "Erase"; tenantId: string | undefined });

/** The decider of conversations. Its states are told above. */
export const conversation: Decider<ConversationCommand, ConversationEvent, ConversationState> = {
  initialState: () => ({ status: "none" }),
  decide,
  evolve,
};

function decide(command: ConversationCommand, state: ConversationState): ConversationEvent[] {
  return command.type === "AddTurn" ? addTurn(command, state) : erase(command, state);
}

function erase(
  { at, conversationId, tenantId }: Extract<ConversationCommand, { type: "Erase" }>,
  state: ConversationState,
): ConversationEvent[] {
  const isOther = state.status !== "none" && tenantId !== undefined && tenantId !== state.tenantId;
  if (state.status === "none" || isOther) {
    throw new AxonError("conversation_not_found", `There is no conversation ${conversationId}.`);
  }
  if (state.status === "erased") return [];
  const by = tenantId === undefined ? "operator" : "tenant";
  return [{ type: "ConversationErased", version: 1, at, conversationId, by }];
}

function addTurn(command: AddTurn, state: ConversationState): ConversationEvent[] {
  const { at, conversationId, tenantId, turnId } = command;
  const stamp = { version: 1, at, conversationId } as const;
  if (state.status === "none") {
    if (command.mustExist) throw notFound(conversationId);
    const { origin } = command;
    const title = titleOf(command.prompt);
    return [
      { type: "ConversationStarted", ...stamp, tenantId, title, ...(origin && { origin }) },
      { type: "TurnAdded", ...stamp, turnId, ordinal: 1 },
    ];
  }
  // Someone else's conversation answers as one that is not there: its existence is no one's business.
  if (state.tenantId !== tenantId || state.status === "erased") throw notFound(conversationId);
  if (state.turnIds.includes(turnId)) return [];
  if (command.runningTurnId !== undefined) {
    throw new AxonError(
      "conversation_busy",
      `Turn ${command.runningTurnId} of this conversation is still running: wait for it or cancel it.`,
      { field: "conversationId" },
    );
  }
  return [{ type: "TurnAdded", ...stamp, turnId, ordinal: state.turnIds.length + 1 }];
}

function evolve(state: ConversationState, event: ConversationEvent): ConversationState {
  switch (event.type) {
    case "ConversationStarted":
      return { status: "open", tenantId: event.tenantId, turnIds: [], lastAddedAt: 0 };
    case "TurnAdded":
      if (state.status === "none") return state;
      return { ...state, turnIds: [...state.turnIds, event.turnId], lastAddedAt: event.at };
    case "ConversationErased":
      return state.status === "none" ? state : { ...state, status: "erased" };
  }
}

function notFound(conversationId: string): AxonError {
  return new AxonError(
    "conversation_not_found",
    `There is no conversation ${conversationId}. Leave conversationId out to start one.`,
    { field: "conversationId" },
  );
}

/** The first line of the prompt, cut at a word where it is too long for a list. */
function titleOf(prompt: string): string {
  // Not by a pattern: one for spaces before a break looks at a long row of spaces again from each of them.
  const line = (prompt.trim().split("\n", 1)[0] ?? "").trimEnd();
  const characters = [...line];
  if (characters.length <= limits.titleCharacters) return line;
  const cut = characters.slice(0, limits.titleCharacters - 1).join("");
  const words = cut.replace(/\s+\S*$/, "");
  return `${words || cut}…`;
}
