const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/** Ten digits hold no later time: that is in the year 37648. */
const mostMs = 2 ** 50 - 1;

/**
 * The lowest position in the log that anything written at `atMs` can have: a ULID's ten characters of time
 * (https://github.com/ulid/spec), then zeros. The control plane's own is in events/ids.ts, for Node only.
 */
export function positionAt(atMs: number): string {
  let time = "";
  let rest = Math.min(Math.floor(atMs), mostMs);
  for (let i = 0; i < 10; i++) {
    time = digits.charAt(rest % 32) + time;
    rest = Math.floor(rest / 32);
  }
  return time + "0".repeat(16);
}

/** When a position was given out, Unix ms. */
export function timeOfPosition(position: string): number {
  return [...position.slice(0, 10)].reduce((ms, digit) => ms * 32 + digits.indexOf(digit), 0);
}
