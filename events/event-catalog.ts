import * as z from "zod";
import { type ApiKeyEvent, apiKeyEventSchema } from "./api-key-events.ts";
import {
  type ConversationEvent,
  conversationErasedSchema,
  conversationStartedSchema,
  turnAddedSchema,
} from "./conversation-events.ts";
import { type GroupEvent, groupEventSchema } from "./group-events.ts";
import { type RolloutEvent, rolloutEventSchema } from "./rollout-events.ts";
import {
  type TurnEvent,
  turnCancelledSchema,
  turnCancelRequestedSchema,
  turnCompletedSchema,
  turnFailedSchema,
  turnRequestedSchema,
  turnStartedSchema,
  turnTakenOverSchema,
} from "./turn-events.ts";

/** Every event that the log can hold. */
export type DomainEvent = ConversationEvent | TurnEvent | GroupEvent | RolloutEvent | ApiKeyEvent;

const catalog = z.discriminatedUnion("type", [
  conversationStartedSchema,
  turnAddedSchema,
  conversationErasedSchema,
  turnRequestedSchema,
  turnStartedSchema,
  turnTakenOverSchema,
  turnCancelRequestedSchema,
  turnCompletedSchema,
  turnCancelledSchema,
  turnFailedSchema,
  groupEventSchema,
  rolloutEventSchema,
  apiKeyEventSchema,
]);

type Upcaster = (event: Record<string, unknown>) => Record<string, unknown>;

/**
 * How an older shape becomes the next one, by `<type>@<version>`. Every shape so far is the first,
 * so there is none; a changed event adds its step here and keeps its old test data.
 */
const upcasters = new Map<string, Upcaster>();

/**
 * Reads one event as it was stored, in whatever version it was written.
 * @throws z.ZodError when it is no event of the catalog.
 */
export function upcast(
  stored: unknown,
  steps: ReadonlyMap<string, Upcaster> = upcasters,
): DomainEvent {
  let event = z.looseObject({ type: z.string(), version: z.int() }).parse(stored);
  for (;;) {
    const step = steps.get(`${event.type}@${event.version}`);
    if (step === undefined) return catalog.parse(event);
    event = z.looseObject({ type: z.string(), version: z.int() }).parse(step(event));
  }
}
