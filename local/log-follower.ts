import { type Commit, type EventLog, logShards, shardOf } from "../events/event-log.ts";
import { positionAt } from "../events/ids.ts";
import { createBell, pause } from "./bell.ts";

export interface FollowerOptions {
  log: Pick<EventLog, "readShard">;
  /**
   * Handles commits, oldest first. @returns how many from the start were handled; fewer than all means
   * that the next one failed and is tried again, with what follows it.
   */
  handle(commits: readonly Commit[]): Promise<number>;
  checkpoint: CheckpointStore;
  onError(error: unknown): void;
  /**
   * A commit that has failed this often is skipped, with an error; without it, it is tried for ever
   * and holds up its shard.
   */
  maxAttempts?: number;
  /** The log is read this often for what was not offered. */
  pollMs?: number;
  /** A commit can show up for this long after others with a higher position. */
  lateMs?: number;
  batchSize?: number;
  now?: () => number;
}

/** Where a follower has got to, kept over restarts: one position a shard. */
export interface CheckpointStore {
  load(): Promise<Positions>;
  save(positions: Positions): Promise<void>;
}
export type Positions = Readonly<Record<string, string>>;

export interface LogFollower {
  /** Hands over a commit that was just written, which spares the follower reading it. */
  offer(commit: Commit): void;
  /** Resolves when everything that was in the log at the start has been handled once. */
  caughtUp: Promise<void>;
  /** Ends after the batches in hand. What was offered and not handled is read at the next start. */
  stop(): Promise<void>;
}

/** A commit was given up. */
class SkippedCommit extends Error {
  override readonly name = "SkippedCommit";
  constructor(stream: string, version: number) {
    super(`Version ${version} of ${stream} has failed too often and is skipped.`);
  }
}

const firstRetryMs = 100;
const longestRetryMs = 5_000;

/**
 * Follows the event log and hands every commit to `handle` at least once; those of one stream come in
 * order where they are read, nearly so where they are offered. It stands in for the stream of the
 * DynamoDB table, which the local emulator lacks. Each shard goes on by itself:
 *
 *   waiting  → handling     a commit was offered: it and all others that were.
 *            → reading      the poll is due.
 *   reading  → waiting      all that was read has been handled; the checkpoint moves.
 *   either   → backing off  a commit failed. What came before it counts.
 *   backing off → reading   after a pause that doubles with each failure.
 *
 * A commit can show up with a position below one that was seen already (clocks, the index's delay).
 * So the checkpoint stays `lateMs` behind, and what is read again and was handled is skipped.
 */
export function followLog(options: FollowerOptions): LogFollower {
  const shards = Array.from({ length: logShards }, (_, shard) => createShard(options, shard));
  const stopping = new AbortController();
  const save = checkpointSaver(options, () =>
    Object.fromEntries(shards.map((shard, index) => [index, shard.settled()])),
  );
  let loops: Promise<void>[] = [];
  const caughtUp = options.checkpoint.load().then(async (positions) => {
    const runs = shards.map((shard, index) =>
      shard.run(positions[index] ?? "", stopping.signal, save),
    );
    loops = runs.map(({ ended }) => ended);
    await Promise.all(runs.map((run) => run.caughtUp));
  });

  return {
    offer(commit) {
      shards[shardOf(commit.stream)]?.offer(commit);
    },
    caughtUp,
    async stop() {
      stopping.abort();
      await caughtUp.catch(() => undefined);
      await Promise.all(loops);
      await save();
    },
  };
}

/** @returns a function that saves the positions if they have moved; calls follow one another. */
function checkpointSaver(
  { checkpoint, onError }: FollowerOptions,
  positions: () => Positions,
): () => Promise<void> {
  let saved = "";
  let last: Promise<void> = Promise.resolve();
  return () => {
    last = last.then(async () => {
      const current = positions();
      const text = JSON.stringify(current);
      if (text === saved) return;
      await checkpoint.save(current).then(() => {
        saved = text;
      }, onError);
    });
    return last;
  };
}

function createShard(options: FollowerOptions, shard: number) {
  const { log, pollMs = 5_000, lateMs = 5_000, batchSize = 100, now = Date.now } = options;
  const { maxAttempts = Number.POSITIVE_INFINITY } = options;
  const bell = createBell();
  const handled = new Set<string>();
  let offered: Commit[] = [];
  /** Everything up to here was handled, and nothing more is expected below it. */
  let settled = "";
  /** The position of the commit that failed last, and how often in a row. */
  let failing = "";
  let attempts = 0;

  /** @returns the first commit that could not be handled, if any. */
  async function handleFresh(commits: Commit[]): Promise<Commit | undefined> {
    const fresh = commits.filter(({ position }) => position > settled && !handled.has(position));
    if (fresh.length === 0) return undefined;
    const done = await options.handle(fresh);
    for (const { position } of fresh.slice(0, done)) handled.add(position);
    const failed = fresh[done];
    if (failed === undefined) return undefined;
    attempts = failed.position === failing ? attempts + 1 : 1;
    failing = failed.position;
    if (attempts >= maxAttempts) {
      handled.add(failed.position);
      options.onError(new SkippedCommit(failed.stream, failed.version));
    }
    return failed;
  }

  /** @returns whether all went well. */
  async function handleOffered(): Promise<boolean> {
    const commits = offered.splice(0, batchSize).sort((a, b) => (a.position < b.position ? -1 : 1));
    return (await handleFresh(commits)) === undefined;
  }

  /** Reads from the checkpoint to the end. @returns whether all went well. */
  async function read(): Promise<boolean> {
    const lateFrom = positionAt(Math.max(0, now() - lateMs));
    for (let after = settled; ; ) {
      const page = await log.readShard(shard, after, batchSize);
      const failed = await handleFresh(page);
      const done = failed === undefined ? page : page.slice(0, page.indexOf(failed));
      settle(done.findLast(({ position }) => position < lateFrom)?.position);
      if (failed !== undefined) return false;
      after = page.at(-1)?.position ?? after;
      if (page.length < batchSize) return true;
    }
  }

  function settle(position: string | undefined): void {
    if (position === undefined) return;
    settled = position;
    for (const old of handled) if (old <= settled) handled.delete(old);
  }

  async function loop(signal: AbortSignal, save: () => Promise<void>, caughtUp: () => void) {
    let readAt = 0;
    let retryMs = firstRetryMs;
    while (!signal.aborted) {
      const reads = now() >= readAt;
      const ok = await (reads ? read() : handleOffered()).catch((error: unknown) => {
        options.onError(error);
        return false;
      });
      if (reads) await save();
      if (ok) {
        retryMs = firstRetryMs;
        if (reads) {
          caughtUp();
          readAt = now() + pollMs;
        }
        if (offered.length === 0) await bell.wait(readAt - now(), signal);
      } else {
        // What was offered is in the log too, and reading keeps the order of what failed.
        offered = [];
        readAt = 0;
        await pause(retryMs, signal);
        retryMs = Math.min(retryMs * 2, longestRetryMs);
      }
    }
    caughtUp();
  }

  return {
    settled: () => settled,
    offer(commit: Commit) {
      offered.push(commit);
      bell.ring();
    },
    run(from: string, signal: AbortSignal, save: () => Promise<void>) {
      settled = from;
      const { promise: caughtUp, resolve } = Promise.withResolvers<void>();
      return { caughtUp, ended: loop(signal, save, resolve) };
    },
  };
}
