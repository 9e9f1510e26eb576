/**
 * How long the keys live that the functions write in Redis (docs/PROTOCOL.md, "The token stream").
 */

/** API Gateway ends a connection after 2 hours; the rest is for clocks and slow closings. */
export const connectionTtlSeconds = 2 * 3_600 + 600;

/** A turn that nobody writes to any more is forgotten after this. */
export const turnTtlSeconds = 24 * 3_600;

/** A stream that has ended is kept this long for clients that come back. */
export const sealedTtlSeconds = 3_600;

/** For so long the outbox trusts that a job that was sent will be taken. */
export const sentTtlSeconds = 300;

export const contextTtlSeconds = 24 * 3_600;
