import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import * as z from "zod";
import type { DomainEvent } from "./event-catalog.ts";
import { chatMessageSchema } from "./turn-events.ts";

/**
 * Which words each event has, and how they are sealed: AES-256-GCM with a random nonce, authenticated
 * together with the event's place in the log, so that words cannot be moved from one event to another.
 * A key seals the few thousand events of one conversation, far below the 2^32 that random nonces allow
 * (NIST SP 800-38D, 8.3).
 */

type EventWithWords = Extract<DomainEvent, { sealed?: unknown }>;

const wordsSchema = z.strictObject({
  title: z.string().optional(),
  prompt: z.string().optional(),
  context: z.array(chatMessageSchema).optional(),
  stop: z.array(z.string()).optional(),
  text: z.string().optional(),
  message: z.string().optional(),
});
type Words = z.infer<typeof wordsSchema>;

/** Where an event stands. */
export interface EventPlace {
  stream: string;
  version: number;
  /** Within its commit, from 0. */
  index: number;
}

/** Bytes of a data key. */
export const dataKeyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;

/** Whether users or models have said anything that the event holds. */
export function hasWords(event: DomainEvent): event is EventWithWords {
  return wordsOf(event) !== undefined;
}

/** An event whose words anybody can read who can read the log: written before there were keys. */
export function isPlain(event: DomainEvent): boolean {
  return hasWords(event) && event.sealed === undefined && event.erased === undefined;
}

function wordsOf(event: DomainEvent): Words | undefined {
  switch (event.type) {
    case "ConversationStarted":
      return { title: event.title };
    case "TurnRequested":
      return { prompt: event.prompt, context: event.context, stop: event.sampling.stop };
    case "TurnCompleted":
    case "TurnCancelled":
      return { text: event.text };
    case "TurnFailed":
      // What an engine says of its failure may quote what it was given.
      return { text: event.text, message: event.message };
    default:
      return undefined;
  }
}

function withWords(event: EventWithWords, words: Words): EventWithWords {
  switch (event.type) {
    case "ConversationStarted":
      return { ...event, title: words.title ?? "" };
    case "TurnRequested": {
      const { context: _, ...rest } = event;
      const { prompt = "", stop = [], context } = words;
      const sampling = { ...event.sampling, stop };
      return { ...rest, prompt, sampling, ...(context && { context }) };
    }
    case "TurnCompleted":
    case "TurnCancelled":
      return { ...event, text: words.text ?? "" };
    case "TurnFailed":
      return { ...event, text: words.text ?? "", message: words.message ?? "" };
  }
}

const additionalData = ({ stream, version, index }: EventPlace, { type }: DomainEvent): Buffer =>
  Buffer.from(JSON.stringify([stream, version, index, type]));

/** The event as the log keeps it. @param key 32 bytes, of the conversation `keyId`. */
export function seal(
  event: EventWithWords,
  place: EventPlace,
  keyId: string,
  key: Buffer,
): DomainEvent {
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv("aes-256-gcm", key, nonce, { authTagLength: tagBytes });
  cipher.setAAD(additionalData(place, event));
  const plain = JSON.stringify(wordsOf(event));
  const words = Buffer.concat([cipher.update(plain, "utf8"), cipher.final(), cipher.getAuthTag()]);
  const sealed = { key: keyId, nonce: nonce.toString("base64"), words: words.toString("base64") };
  return { ...withWords(event, {}), sealed };
}

/**
 * The event with its words.
 * @throws SealBroken when the key or the place is another, or a bit of the words has changed.
 */
export function open(event: EventWithWords, place: EventPlace, key: Buffer): DomainEvent {
  const { sealed, ...rest } = event;
  if (sealed === undefined) return event;
  const bytes = Buffer.from(sealed.words, "base64");
  try {
    const nonce = Buffer.from(sealed.nonce, "base64");
    const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: tagBytes });
    decipher.setAAD(additionalData(place, event));
    decipher.setAuthTag(bytes.subarray(-tagBytes));
    const text = Buffer.concat([decipher.update(bytes.subarray(0, -tagBytes)), decipher.final()]);
    const words = wordsSchema.parse(JSON.parse(text.toString("utf8")));
    return withWords(rest, words);
  } catch (cause) {
    throw new SealBroken(`${event.type} in version ${place.version} of ${place.stream}`, cause);
  }
}

/** The event without its words, marked so. */
export function erase(event: EventWithWords): DomainEvent {
  const { sealed: _, ...rest } = event;
  return { ...withWords(rest, {}), erased: true };
}

class SealBroken extends Error {
  override readonly name = "SealBroken";
  constructor(what: string, cause?: unknown) {
    super(`The words of ${what} cannot be opened.`, { cause });
  }
}
