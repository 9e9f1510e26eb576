import * as z from "zod";

/**
 * How an event carries what a user wrote or read: its words (a title, a prompt, an answer). In the log they
 * are encrypted with the data key of their conversation, and the fields that would hold them are empty.
 */
const sealedSchema = z.strictObject({
  /** The conversation whose key it is. */
  key: z.string(),
  /** 96 random bits, base64. */
  nonce: z.base64(),
  /** AES-256-GCM of the words as JSON, then the tag of 16 bytes; base64. */
  words: z.base64(),
});

/** What every event with words may have beside them. */
export const sealable = {
  /** Only in the log: who reads an event through it sees the words. */
  sealed: sealedSchema.optional(),
  /** Its conversation was erased: the words are gone for good, and what they were in is empty. */
  erased: z.literal(true).optional(),
};
