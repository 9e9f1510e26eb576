/**
 * A token of the bench is the time at which the engine said it, in µs since `epochMs`, as nine characters:
 * whoever reads the text knows how long each token has been under way. All processes share one clock.
 */
const epochMs = Date.UTC(2026, 0, 1);
const stampLength = 9;

export const nowUs = (): number =>
  Math.round((performance.timeOrigin + performance.now() - epochMs) * 1_000);

export const stampText = (us: number): string => us.toString(36).padStart(stampLength, "0");

/** The times in a text of whole tokens, µs. */
export function stampsIn(text: string): number[] {
  const stamps: number[] = [];
  for (let i = 0; i < text.length; i += stampLength) {
    stamps.push(Number.parseInt(text.slice(i, i + stampLength), 36));
  }
  return stamps;
}
