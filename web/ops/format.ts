/** How figures are shown. What is not known is a dash, never a zero. */

export const notKnown = "–";

/** A time span in the units that fit it: `0.4 ms`, `740 ms`, `3.2 s`, `42 s`, `4 min 05 s`, `2 h 10 min`, `3 d 4 h`. */
export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return notKnown;
  if (ms < 10) return `${withDecimal(ms)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 9_950) return `${withDecimal(ms / 1_000)} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return inTwo(seconds, 60, "min", "s");
  const minutes = Math.round(seconds / 60);
  if (minutes < 1_440) return inTwo(minutes, 60, "h", "min");
  return inTwo(Math.round(minutes / 60), 24, "d", "h");
}

/** Of a larger unit and a smaller one, of which `size` make one. */
function inTwo(value: number, size: number, large: string, small: string): string {
  const rest = value % size;
  const text = `${Math.floor(value / size)} ${large}`;
  return rest === 0 ? text : `${text} ${size === 60 ? twoDigits(rest) : rest} ${small}`;
}

const withDecimal = (value: number): string => value.toFixed(1).replace(/\.0$/, "");

const twoDigits = (value: number): string => String(value).padStart(2, "0");

export function count(value: number | null | undefined): string {
  return value === null || value === undefined ? notKnown : value.toLocaleString("en");
}

/** @param share 0–1 */
export function percentOf(share: number | null | undefined): string {
  return share === null || share === undefined ? notKnown : percent(share * 100);
}

/** One decimal where it says something: `0.4 %`, `12 %`, `100 %`. */
export function percent(value: number | null | undefined): string {
  if (value === null || value === undefined) return notKnown;
  const text = value < 10 ? withDecimal(value) : `${Math.round(value)}`;
  return `${text} %`;
}

export function perSecond(value: number | null | undefined): string {
  if (value === null || value === undefined) return notKnown;
  return `${value < 10 ? withDecimal(value) : Math.round(value).toLocaleString("en")}/s`;
}

/** The time of day, with the date where it is not today's; in the viewer's own time zone. */
export function clock(at: number | null | undefined, now: number): string {
  if (at === null || at === undefined) return notKnown;
  const time = new Date(at);
  const day = `${time.getFullYear()}-${twoDigits(time.getMonth() + 1)}-${twoDigits(time.getDate())}`;
  const hour = [time.getHours(), time.getMinutes(), time.getSeconds()].map(twoDigits).join(":");
  return new Date(now).toDateString() === time.toDateString() ? hour : `${day} ${hour}`;
}

/** Hours and minutes, for an axis. */
export function timeOfDay(at: number): string {
  const time = new Date(at);
  return `${twoDigits(time.getHours())}:${twoDigits(time.getMinutes())}`;
}

/** To the millisecond: for what follows fast on each other. */
export function exactClock(at: number, now: number): string {
  return `${clock(at, now)}.${String(at % 1_000).padStart(3, "0")}`;
}

/** What `datetime-local` fields hold: local time without a zone, to the second. */
export function toLocalField(at: number): string {
  const shifted = new Date(at - new Date(at).getTimezoneOffset() * 60_000);
  return shifted.toISOString().slice(0, 19);
}

/** @returns Unix ms; undefined where the field is empty or no time. */
export function fromLocalField(text: string): number | undefined {
  const at = new Date(text).getTime();
  return Number.isFinite(at) ? at : undefined;
}

export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

export const times = (value: number): string => (value === 1 ? "once" : `${count(value)} times`);
