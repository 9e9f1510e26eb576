/** How a download goes on: how much is there, how fast it comes, how long it will take. */

import { bytesText, durationText } from "../local/model-store/quantities.ts";

/** The rate is that of the last seconds: what was fast an hour ago tells nothing about now. */
const windowMs = 5_000;

export interface ProgressState {
  label: string;
  doneBytes: number;
  sizeBytes: number;
  /** Undefined as long as it is not known. */
  bytesPerSecond: number | undefined;
}

/** Measures how fast a count of bytes grows. */
export class RateMeter {
  #samples: { atMs: number; bytes: number }[] = [];

  /** Notes that there are `bytes` now; fewer than before begin anew. */
  add(bytes: number, atMs: number): void {
    const last = this.#samples.at(-1);
    if (last !== undefined && bytes < last.bytes) this.#samples = [];
    this.#samples.push({ atMs, bytes });
    // The oldest sample is the first from before the window, so that the window is always full.
    while ((this.#samples[1]?.atMs ?? atMs) < atMs - windowMs) this.#samples.shift();
  }

  /** Bytes a second at `atMs`; undefined in the first half second. */
  rate(atMs: number): number | undefined {
    const [first] = this.#samples;
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || atMs - first.atMs < 500) return undefined;
    return ((last.bytes - first.bytes) * 1_000) / (atMs - first.atMs);
  }
}

/** One line: the label, per cent, a bar if there is room, bytes, rate and the time left. */
export function progressLine(state: ProgressState, columns: number): string {
  const { label, doneBytes, sizeBytes, bytesPerSecond } = state;
  const share = sizeBytes === 0 ? 1 : doneBytes / sizeBytes;
  // 100 % is said when it is done, and not when it rounds to that.
  const percent = `${String(Math.floor(share * 100)).padStart(3)}%`;
  const figures = [`${bytesText(doneBytes)} of ${bytesText(sizeBytes)}`];
  if (bytesPerSecond !== undefined) {
    figures.push(`${bytesText(bytesPerSecond)}/s`);
    if (bytesPerSecond > 0 && doneBytes < sizeBytes) {
      figures.push(`${durationText((sizeBytes - doneBytes) / bytesPerSecond)} left`);
    }
  }
  const before = `${label} ${percent} `;
  const after = ` ${figures.join("  ")}`;
  const room = Math.min(30, columns - before.length - after.length - 2);
  const filled = Math.round(share * room);
  const bar = room < 8 ? "" : `[${"#".repeat(filled)}${"-".repeat(room - filled)}]`;
  return (before + bar + after).slice(0, columns);
}
