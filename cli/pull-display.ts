import type { PullEvent } from "../local/model-store/pull-events.ts";
import { bytesText } from "../local/model-store/quantities.ts";
import { progressLine, RateMeter } from "./progress.ts";

/** Where a pull is shown. `columns` is undefined where no terminal is. */
export interface DisplayOutput {
  write(text: string): unknown;
  columns?: number | undefined;
}

/** Shows the events of a pull as they come. */
export interface PullDisplay {
  tell(event: PullEvent): void;
  /** Ends the line that is rewritten, so that others can write. */
  end(): void;
}

const redrawMs = 100;
const plainLineMs = 5_000;
const jsonProgressMs = 500;
/** The cursor goes to the beginning of its line, which is emptied. */
const clearLine = "\r\x1b[2K";

/** A line that is rewritten on a terminal, and elsewhere a line every five seconds. */
export function textDisplay(output: DisplayOutput, now = () => performance.now()): PullDisplay {
  const isTerminal = output.columns !== undefined;
  const meter = new RateMeter();
  let shown: { line: string; isOpen: boolean; atMs: number } | undefined;
  const say = (text: string) => {
    end();
    output.write(`${text}\n`);
  };
  const end = () => {
    if (shown?.isOpen) output.write("\n");
    if (shown !== undefined) shown.isOpen = false;
  };
  const progress = ({ file, doneBytes, sizeBytes }: PullEvent & { type: "progress" }) => {
    const atMs = now();
    meter.add(doneBytes, atMs);
    const dueMs = isTerminal ? redrawMs : plainLineMs;
    const isDone = doneBytes === sizeBytes;
    if (!isDone && shown !== undefined && atMs - shown.atMs < dueMs) return;
    const state = { label: file, doneBytes, sizeBytes, bytesPerSecond: meter.rate(atMs) };
    // The last column is left free: some terminals begin a new line behind it.
    const line = progressLine(state, isTerminal ? Math.max(20, (output.columns ?? 80) - 1) : 100);
    if (line === shown?.line) return;
    output.write(isTerminal ? clearLine + line : `${line}\n`);
    shown = { line, isOpen: isTerminal, atMs };
  };
  return {
    end,
    tell(event) {
      if (event.type === "progress") progress(event);
      else if (event.type === "planned") meter.add(event.doneBytes, now());
      const text = sentence(event);
      if (text !== undefined) say(text);
      if (event.type === "pulled") end();
    },
  };
}

/** Each event as a line of JSON; of progress, two a second and the last. */
export function jsonDisplay(output: DisplayOutput, now = () => performance.now()): PullDisplay {
  let saidAtMs = Number.NEGATIVE_INFINITY;
  return {
    end() {},
    tell(event) {
      if (event.type === "progress" && event.doneBytes < event.sizeBytes) {
        if (now() - saidAtMs < jsonProgressMs) return;
        saidAtMs = now();
      }
      output.write(`${JSON.stringify(event)}\n`);
    },
  };
}

function sentence(event: PullEvent): string | undefined {
  switch (event.type) {
    case "found":
      return `${event.source}${event.commit ? ` (commit ${event.commit.slice(0, 7)})` : ""} as ${event.name}`;
    case "planned": {
      const there = event.doneBytes === 0 ? "" : `, ${bytesText(event.doneBytes)} are here already`;
      const files = event.files === 1 ? "1 file" : `${event.files} files`;
      return `${files}, ${bytesText(event.sizeBytes)}${there}`;
    }
    case "retry":
      return `${event.why}; again in ${(event.afterMs / 1_000).toFixed(1)} s`;
    case "startOver":
      return `${event.file} starts over: ${event.why}`;
    default:
      return undefined;
  }
}
