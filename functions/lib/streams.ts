import { type ApiKeyCommand, type ApiKeyState, apiKey } from "../../events/api-key.ts";
import type { ApiKeyEvent } from "../../events/api-key-events.ts";
import {
  type ConversationCommand,
  type ConversationState,
  conversation,
} from "../../events/conversation.ts";
import type { ConversationEvent } from "../../events/conversation-events.ts";
import { type Decider, fold } from "../../events/decider.ts";
import type { DomainEvent } from "../../events/event-catalog.ts";
import {
  apiKeyStream,
  conversationStream,
  type EventLog,
  groupStream,
  rolloutStream,
  turnStream,
} from "../../events/event-log.ts";
import { type GroupCommand, type GroupState, group } from "../../events/group.ts";
import { type GroupEvent, groupEventSchema } from "../../events/group-events.ts";
import { type RolloutCommand, rollout } from "../../events/rollout.ts";
import { type RolloutEvent, rolloutEventSchema } from "../../events/rollout-events.ts";
import { evolve, initialState, type RolloutState } from "../../events/rollout-state.ts";
import { type TurnCommand, type TurnState, turn } from "../../events/turn.ts";
import type { TurnEvent } from "../../events/turn-events.ts";

/** One kind of stream: how it is named, what its events mean, and which of the log's are its own. */
export interface StreamKind<Command, Event extends DomainEvent, State> {
  decider: Decider<Command, Event, State>;
  nameOf(id: string): string;
  isOwn(event: DomainEvent): event is Event;
}

const conversationTypes: readonly string[] = [
  "ConversationStarted",
  "TurnAdded",
  "ConversationErased",
] satisfies ConversationEvent["type"][];

export function isConversationEvent(event: DomainEvent): event is ConversationEvent {
  return conversationTypes.includes(event.type);
}

export function isTurnEvent(event: DomainEvent): event is TurnEvent {
  return "turnId" in event && !isConversationEvent(event);
}

export const turns: StreamKind<TurnCommand, TurnEvent, TurnState> = {
  decider: turn,
  nameOf: turnStream,
  isOwn: isTurnEvent,
};

export const conversations: StreamKind<ConversationCommand, ConversationEvent, ConversationState> =
  {
    decider: conversation,
    nameOf: conversationStream,
    isOwn: isConversationEvent,
  };

type EventSchema = { options: readonly { shape: { type: { value: string } } }[] };
const typesOf = ({ options }: EventSchema) => new Set(options.map(({ shape }) => shape.type.value));
const groupTypes = typesOf(groupEventSchema);
const rolloutTypes = typesOf(rolloutEventSchema);

export const groups: StreamKind<GroupCommand, GroupEvent, GroupState> = {
  decider: group,
  nameOf: groupStream,
  isOwn: (event): event is GroupEvent => groupTypes.has(event.type),
};

const isRolloutEvent = (event: DomainEvent): event is RolloutEvent => rolloutTypes.has(event.type);

/** By the model's name. */
export const rollouts: StreamKind<RolloutCommand, RolloutEvent, RolloutState> = {
  decider: rollout,
  nameOf: rolloutStream,
  isOwn: isRolloutEvent,
};

/** What the log says of a model's rollouts, for who only reads: what decides about them is 12 kB of a bundle. */
export async function rolloutState(log: EventLog, model: string): Promise<RolloutState> {
  const commits = await log.read(rolloutStream(model));
  const events = commits.flatMap((commit) => commit.events).filter(isRolloutEvent);
  return events.reduce(evolve, initialState());
}

export const apiKeys: StreamKind<ApiKeyCommand, ApiKeyEvent, ApiKeyState> = {
  decider: apiKey,
  nameOf: apiKeyStream,
  isOwn: (event): event is ApiKeyEvent => "keyId" in event,
};

/** A stream as it stood when it was read. */
export interface Loaded<Event, State> {
  state: State;
  events: Event[];
  /** Version of its last commit; 0 for a stream that does not exist. */
  version: number;
}

export async function load<Command, Event extends DomainEvent, State>(
  log: EventLog,
  kind: StreamKind<Command, Event, State>,
  id: string,
): Promise<Loaded<Event, State>> {
  const commits = await log.read(kind.nameOf(id));
  const events = commits.flatMap((commit) => commit.events).filter(kind.isOwn);
  return { state: fold(kind.decider, events), events, version: commits.at(-1)?.version ?? 0 };
}

/** What `load` returns for a stream that nobody has written to: a good guess for a new id. */
export function notWritten<Command, Event extends DomainEvent, State>(
  kind: StreamKind<Command, Event, State>,
): Loaded<Event, State> {
  return { state: kind.decider.initialState(), events: [], version: 0 };
}

/** A turn that was asked for. */
export type RequestedTurn = Exclude<TurnState, { status: "none" }>;
