import { createHash, randomBytes } from "node:crypto";

const CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** The first characters of bytes in Crockford's base 32: digits and capitals without I, L, O and U. */
export function base32(bytes: Uint8Array, characters: number): string {
  let text = "";
  let bits = 0;
  let value = 0;
  for (const byte of bytes) {
    value = ((value << 8) | byte) & 0xffff;
    bits += 8;
    while (bits >= 5 && text.length < characters) {
      bits -= 5;
      text += CROCKFORD[(value >>> bits) & 31];
    }
  }
  return text;
}

function derivedId(prefix: string, ...parts: string[]): string {
  const digest = createHash("sha256").update(JSON.stringify(parts)).digest();
  return `${prefix}_${base32(digest, 26)}`;
}

/**
 * The turn that a tenant's request creates. The same request sent again names the same turn, so a
 * client may retry without asking twice; another tenant's request with the same id names another.
 */
export function turnIdFor(tenantId: string, requestId: string): string {
  return derivedId("turn", tenantId, requestId);
}

/** The conversation that a turn starts when the request names none. */
export function conversationIdFor(turnId: string): string {
  return derivedId("conv", turnId);
}

/** A new identifier for a process (leader, relay, group), unique across hosts. */
export function processId(role: string): string {
  return `${role}_${base32(randomBytes(10), 16)}`;
}

/**
 * Returns a source of positions: 26 characters that sort in the order of their making, by
 * milliseconds first (the layout of a ULID, https://github.com/ulid/spec). Within one source they
 * never repeat and never go back, even when the clock does.
 */
export function positionSource(now: () => number = Date.now): () => string {
  let lastMs = 0;
  let counter = 0n;
  return () => {
    const nowMs = now();
    if (nowMs > lastMs) {
      lastMs = nowMs;
      // The top bit stays clear, so that counting up cannot overflow within a millisecond.
      counter = BigInt(`0x${randomBytes(10).toString("hex")}`) >> 1n;
    } else {
      counter += 1n;
    }
    return encodeTime(lastMs) + encodeCounter(counter);
  };
}

/** The lowest position that any event written at `atMs` can have. */
export function positionAt(atMs: number): string {
  return encodeTime(atMs) + "0".repeat(16);
}

/** When a commit of that position was written, Unix ms, by its writer's clock. */
export function timeOfPosition(position: string): number {
  let ms = 0;
  for (const character of position.slice(0, 10)) ms = ms * 32 + CROCKFORD.indexOf(character);
  return ms;
}

function encodeTime(ms: number): string {
  let text = "";
  for (let i = 0; i < 10; i++) {
    text = CROCKFORD[ms % 32] + text;
    ms = Math.floor(ms / 32);
  }
  return text;
}

function encodeCounter(value: bigint): string {
  let text = "";
  for (let i = 0; i < 16; i++) {
    text = CROCKFORD[Number(value % 32n)] + text;
    value /= 32n;
  }
  return text;
}
