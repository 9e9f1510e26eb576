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
  const shards = Array.from({ length: logShards }, (_, shard) => new ShardFollower(options, shard));
  const stopping = new AbortController();
  const save = checkpointSaver(options, () =>
    Object.fromEntries(shards.map((shard, index) => [index, shard.settled])),
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

/** One shard of the log, followed by itself. */
class ShardFollower {
  readonly #options: FollowerOptions;
  readonly #shard: number;
  readonly #now: () => number;
  readonly #batchSize: number;
  readonly #bell = createBell();
  readonly #handled = new Set<string>();
  #offered: Commit[] = [];
  #settled = "";
  /** The position of the commit that failed last, and how often in a row. */
  #failing = "";
  #attempts = 0;

  constructor(options: FollowerOptions, shard: number) {
    this.#options = options;
    this.#shard = shard;
    this.#now = options.now ?? Date.now;
    this.#batchSize = options.batchSize ?? 100;
  }

  /** Everything up to here was handled, and nothing more is expected below it. */
  get settled(): string {
    return this.#settled;
  }

  offer(commit: Commit): void {
    this.#offered.push(commit);
    this.#bell.ring();
  }

  run(from: string, signal: AbortSignal, save: () => Promise<void>) {
    this.#settled = from;
    const { promise: caughtUp, resolve } = Promise.withResolvers<void>();
    return { caughtUp, ended: this.#loop(signal, save, resolve) };
  }

  async #loop(signal: AbortSignal, save: () => Promise<void>, caughtUp: () => void): Promise<void> {
    const { pollMs = 5_000, onError } = this.#options;
    let readAt = 0;
    let retryMs = firstRetryMs;
    while (!signal.aborted) {
      const reads = this.#now() >= readAt;
      const ok = await (reads ? this.#read() : this.#handleOffered()).catch((error: unknown) => {
        onError(error);
        return false;
      });
      if (reads) await save();
      if (ok) {
        retryMs = firstRetryMs;
        if (reads) {
          caughtUp();
          readAt = this.#now() + pollMs;
        }
        if (this.#offered.length === 0) await this.#bell.wait(readAt - this.#now(), signal);
      } else {
        // What was offered is in the log too, and reading keeps the order of what failed.
        this.#offered = [];
        readAt = 0;
        await pause(retryMs, signal);
        retryMs = Math.min(retryMs * 2, longestRetryMs);
      }
    }
    caughtUp();
  }

  /** @returns whether all went well. */
  async #handleOffered(): Promise<boolean> {
    const commits = this.#offered.splice(0, this.#batchSize);
    commits.sort((a, b) => (a.position < b.position ? -1 : 1));
    return (await this.#handleFresh(commits)) === undefined;
  }

  /** Reads from the checkpoint to the end. @returns whether all went well. */
  async #read(): Promise<boolean> {
    const { log, lateMs = 5_000 } = this.#options;
    const lateFrom = positionAt(Math.max(0, this.#now() - lateMs));
    for (let after = this.#settled; ; ) {
      const page = await log.readShard(this.#shard, after, this.#batchSize);
      const failed = await this.#handleFresh(page);
      const done = failed === undefined ? page : page.slice(0, page.indexOf(failed));
      this.#settle(done.findLast(({ position }) => position < lateFrom)?.position);
      if (failed !== undefined) return false;
      after = page.at(-1)?.position ?? after;
      if (page.length < this.#batchSize) return true;
    }
  }

  /** @returns the first commit that could not be handled, if any. */
  async #handleFresh(commits: Commit[]): Promise<Commit | undefined> {
    const { handle, onError, maxAttempts = Number.POSITIVE_INFINITY } = this.#options;
    const fresh = commits.filter(
      ({ position }) => position > this.#settled && !this.#handled.has(position),
    );
    if (fresh.length === 0) return undefined;
    const done = await handle(fresh);
    for (const { position } of fresh.slice(0, done)) this.#handled.add(position);
    const failed = fresh[done];
    if (failed === undefined) return undefined;
    this.#attempts = failed.position === this.#failing ? this.#attempts + 1 : 1;
    this.#failing = failed.position;
    if (this.#attempts >= maxAttempts) {
      this.#handled.add(failed.position);
      onError(new SkippedCommit(failed.stream, failed.version));
    }
    return failed;
  }

  #settle(position: string | undefined): void {
    if (position === undefined) return;
    this.#settled = position;
    for (const old of this.#handled) if (old <= position) this.#handled.delete(old);
  }
}
