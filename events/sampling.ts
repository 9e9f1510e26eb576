import * as z from "zod";
import { limits } from "./limits.ts";

const { repetitionPenalty, stopCharacters, stopStrings } = limits;

const stopStringSchema = z
  .string()
  .min(1)
  .refine((text) => [...text].length <= stopCharacters, {
    message: `must be at most ${stopCharacters} characters`,
  })
  // Half a character never occurs in an answer, and PostgreSQL's JSON holds neither it nor U+0000.
  .refine((text) => text.isWellFormed() && !text.includes("\u0000"), {
    message: "must be well-formed Unicode without U+0000",
  });

/** How the next token is drawn, and where the answer ends. */
const fields = z.strictObject({
  /** Tokens of the answer, at most. */
  maxTokens: z.int().min(1).max(limits.maxTokens),
  /** 0 is greedy: always the likeliest token. */
  temperature: z.number().min(0).max(limits.temperature),
  /** Draw only among the K likeliest tokens; 0 is all of them. */
  topK: z.int().min(0).max(limits.topK),
  /** Draw only among the likeliest tokens whose probabilities add up to P. */
  topP: z.number().gt(0).max(1),
  /** Draw only among tokens at least P times as probable as the likeliest; 0 is all of them. */
  minP: z.number().min(0).max(1),
  /** Makes tokens that were there before less likely (above 1) or likelier; 1 is off. */
  repetitionPenalty: z.number().min(repetitionPenalty.least).max(repetitionPenalty.most),
  /** The answer ends before the first of these strings that occurs in it. */
  stop: z.array(stopStringSchema).max(stopStrings),
  seed: z.int().min(0).max(0xffff_ffff),
});

/** What a client may ask for; what is left out stays undefined, for the model's default to fill. */
export const requestedSamplingSchema = fields.partial();
export type RequestedSampling = z.infer<typeof requestedSamplingSchema>;

/** The values of the fields that not every version has known: with them, nothing is different. */
const neutral = { minP: 0, repetitionPenalty: 1, stop: [] as string[] };

/**
 * The values that a turn runs with, the seed included, as its log and its job record them. What was
 * written before a field existed reads with that field's neutral value.
 */
export const samplingSchema = fields.extend({
  minP: fields.shape.minP.default(neutral.minP),
  repetitionPenalty: fields.shape.repetitionPenalty.default(neutral.repetitionPenalty),
  stop: fields.shape.stop.default(() => [...neutral.stop]),
});

export type Sampling = z.infer<typeof samplingSchema>;

/**
 * The same sampling without those neutral values: what a reader of the previous version understands
 * too, unless the turn really needs what that version cannot do.
 */
export function sparseSampling(sampling: Sampling): z.input<typeof samplingSchema> {
  const { minP, repetitionPenalty: penalty, stop, ...rest } = sampling;
  return {
    ...rest,
    ...(minP !== neutral.minP && { minP }),
    ...(penalty !== neutral.repetitionPenalty && { repetitionPenalty: penalty }),
    ...(stop.length > 0 && { stop }),
  };
}
