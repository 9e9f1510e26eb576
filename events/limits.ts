/** What Axon accepts. Each limit is checked at the boundary, before any event is written. */
export const limits = {
  /** API Gateway's own limit for one WebSocket frame. */
  frameBytes: 32 * 1024,
  /** UTF-8 length of one prompt. It leaves room for the rest of the frame. */
  promptBytes: 16 * 1024,
  /** Tokens of one answer that a client may ask for. */
  maxTokens: 4096,
  temperature: 2,
  topK: 1000,
  repetitionPenalty: { least: 0.1, most: 10 },
  /** Strings of one request that may end its answer. */
  stopStrings: 4,
  /** Characters (code points) of one of them. */
  stopCharacters: 64,
  /** Characters of a conversation's title, cut from its first prompt. */
  titleCharacters: 80,
} as const;
