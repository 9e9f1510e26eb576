import { CommandError } from "./stage.ts";

const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** `500ms`, `30s`, `10m`, `1.5h`, `2d`, in ms; undefined for anything else. */
function durationMs(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text);
  if (match === null) return undefined;
  const [, count, unit] = match;
  return Math.round(Number(count) * unitMs[unit as keyof typeof unitMs]);
}

/** @throws CommandError */
export function durationOf(option: string, text: string): number {
  const ms = durationMs(text);
  if (ms !== undefined) return ms;
  throw new CommandError(`--${option} takes a duration such as 30s, 10m or 1h, not "${text}".`, {
    exitCode: 2,
  });
}

/**
 * A moment of the past: a position of the log, a time (ISO 8601, or Unix ms), or how long ago.
 * @throws CommandError
 */
export function momentOf(
  option: string,
  text: string | undefined,
  now: number = Date.now(),
): { at?: number; position?: string } {
  if (text === undefined) return {};
  if (/^[0-9A-HJKMNP-TV-Z]{26}$/.test(text)) return { position: text };
  const ago = durationMs(text);
  if (ago !== undefined) return { at: now - ago };
  const at = /^\d{9,16}$/.test(text) ? Number(text) : Date.parse(text);
  if (!Number.isNaN(at)) return { at };
  throw new CommandError(
    `--${option} takes a time (2026-01-31T12:00:00Z), how long ago (10m), or a position of the log, not "${text}".`,
    { exitCode: 2 },
  );
}
