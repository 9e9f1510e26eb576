import * as z from "zod";
import { AxonError } from "../../../events/errors.ts";
import { idSchema } from "../../../events/frames.ts";
import type { AnswerPart, Place } from "../turns/read-answer.ts";
import type { Shape } from "./answers.ts";
import { errorOfEnd, errorOfReading } from "./errors.ts";

/** Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html */

/** A turn, and how far somebody has read it. */
export interface EventId {
  turnId: string;
  place: Place;
}

/** `<turnId>:<sequence number>:<its epoch>:<characters>`: all that is needed to go on from there. */
const eventIdText = ({ turnId, place: { seq, epoch, characters } }: EventId): string =>
  `${turnId}:${seq}:${epoch}:${characters}`;

const count = z.coerce.number().int().min(0);
const eventIdSchema = z.tuple([idSchema, count, count, count]);

/** @throws AxonError invalid_field */
export function parseEventId(text: string): EventId {
  const { success, data } = eventIdSchema.safeParse(text.split(":"));
  if (!success) {
    const message = "Last-Event-ID: is none of ours. Send the id of an event as you got it.";
    throw new AxonError("invalid_field", message, { field: "Last-Event-ID" });
  }
  const [turnId, seq, epoch, characters] = data;
  return { turnId, place: { seq, epoch, characters } };
}

const event = (data: object | string, id?: EventId): string => {
  const text = typeof data === "string" ? data : JSON.stringify(data);
  return `${id === undefined ? "" : `id: ${eventIdText(id)}\n`}data: ${text}\n\n`;
};

/** A line that clients skip, so that nobody in between takes the connection for dead. */
const keepAlive = ": keep-alive\n\n";

/** What Node's pipeline throws into a body whose reader has closed the connection. It is nobody's fault. */
export const isClientGone = (error: unknown): boolean =>
  (error as { code?: unknown }).code === "ERR_STREAM_PREMATURE_CLOSE";

/**
 * The events of an answer. What breaks off ends with an event that has an `error`, and without `[DONE]`.
 * @param onFailure is told of what was no refusal
 */
export async function* eventsOf(
  { turnId, place }: EventId,
  parts: AsyncIterable<AnswerPart>,
  shape: Shape,
  { includeUsage, onFailure }: { includeUsage: boolean; onFailure(error: unknown): object },
): AsyncGenerator<string> {
  try {
    if (place.seq === 0 && shape.opening !== undefined) {
      yield event(shape.opening, { turnId, place });
    }
    for await (const part of parts) {
      if (part.type === "silence") yield keepAlive;
      else if (part.type === "text") {
        const id = { turnId, place: part.place };
        if (part.text !== "") yield event(shape.piece(part.text), id);
      } else {
        const id = { turnId, place: part.place };
        const failure = errorOfEnd(part.end);
        if (failure !== undefined) {
          yield event(failure.body, id);
          return;
        }
        yield event(shape.ending(part.end), id);
        if (includeUsage) yield event(shape.usage(part.end), id);
        yield event("[DONE]");
      }
    }
  } catch (error) {
    if (isClientGone(error)) return;
    yield event(errorOfReading(error, turnId)?.body ?? onFailure(error));
  }
}
