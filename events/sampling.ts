import { z } from "zod";
import { limits } from "./limits.ts";

/** How the next token is drawn. A turn records the values it ran with, the seed included. */
export const samplingSchema = z.strictObject({
  /** Tokens of the answer, at most. */
  maxTokens: z.int().min(1).max(limits.maxTokens),
  /** 0 is greedy: always the likeliest token. */
  temperature: z.number().min(0).max(limits.temperature),
  /** Draw only among the K likeliest tokens; 0 is all of them. */
  topK: z.int().min(0).max(limits.topK),
  /** Draw only among the likeliest tokens whose probabilities add up to P. */
  topP: z.number().gt(0).max(1),
  seed: z.int().min(0).max(0xffff_ffff),
});

export type Sampling = z.infer<typeof samplingSchema>;
