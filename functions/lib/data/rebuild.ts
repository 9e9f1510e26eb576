import type { PoolClient } from "pg";
import * as z from "zod";
import { type Commit, logShards } from "../../../events/event-log.ts";
import { positionAt } from "../../../events/ids.ts";
import type { Deps } from "../deps.ts";
import { type Telling, tellOpened } from "../history/projection.ts";
import { switchTables } from "./rebuild-switch.ts";
import {
  beginRebuild,
  dropRebuild,
  isCurrent,
  liveSchema,
  pageLock,
  type Rebuild,
  rebuildSchema,
  rebuildUnderWay,
  within,
} from "./rebuild-tables.ts";

/**
 * Rebuilding a projection from the log, while the one in use is read and written.
 *
 *   none      → reading    empty tables are made beside those in use.
 *   reading   → reading    a page of a shard of the log was told to them; how far they know it is noted in the
 *                          same transaction. So a process that dies has lost the page in its hands, and the next
 *                          one goes on there.
 *   reading   → switched   every shard was read to its end: rebuild-switch.ts.
 *
 * It works in steps of a given time, because a Lambda function has 15 minutes. A lock lets one work at a time.
 * In memory there is a page.
 */

/** How a rebuild stands. */
export interface RebuildProgress {
  projection: string;
  /** "busy": another one works on it. */
  state: "working" | "busy" | "done" | "dropped" | "none";
  /** Told so far. */
  commits: number;
  events: number;
  /** Commits that the tables in use knew when it began: about how many there are. */
  expected: number;
  eventsPerSecond: number;
  /** By the rate so far. */
  leftMs: number | null;
}

export interface RebuildOptions {
  projection: "history";
  /** When to come to an end, by `now`. A page of each shard is told first; the switch is not broken off. */
  until: number;
  pageSize?: number;
  /** A commit can show up for this long after others with a higher position (clocks, the index). */
  lateMs?: number;
}

export type RebuildDeps = Pick<Deps, "database" | "log" | "now">;

/** Any number will do, as long as nothing else in the database locks the same one. */
const rebuildLock = 7_190_003;

/** Goes on with the rebuild, or begins one, until it is done or the time is over. */
export async function rebuild(
  deps: RebuildDeps,
  options: RebuildOptions,
): Promise<RebuildProgress> {
  return alone(deps, options.projection, async (client) => {
    let state = await rebuildUnderWay(client, options.projection);
    if (state === undefined || !isCurrent(state)) {
      state = await beginRebuild(client, options.projection);
    }
    const work = new RebuildStep(deps, options, client, state, await liveSchema(client));
    return work.run();
  });
}

/** Throws the tables of a rebuild away that was begun. */
export async function abandonRebuild(
  deps: RebuildDeps,
  projection: string,
): Promise<RebuildProgress> {
  return alone(deps, projection, async (client) =>
    idle(projection, (await dropRebuild(client, projection)) ? "dropped" : "none"),
  );
}

const idle = (projection: string, state: RebuildProgress["state"]): RebuildProgress => ({
  ...{ projection, state, commits: 0, events: 0, expected: 0, eventsPerSecond: 0, leftMs: null },
});

const lockedSchema = z.tuple([z.object({ locked: z.boolean() })]);

async function alone(
  { database }: RebuildDeps,
  projection: string,
  work: (client: PoolClient) => Promise<RebuildProgress>,
): Promise<RebuildProgress> {
  const client = await database.connect();
  // Between two statements nobody but a listener hears that a connection breaks; the next one fails.
  client.on("error", () => undefined);
  try {
    const { rows } = await client.query("SELECT pg_try_advisory_lock($1) AS locked", [rebuildLock]);
    if (!lockedSchema.parse(rows)[0].locked) return idle(projection, "busy");
    return await work(client);
  } finally {
    await client.query("SELECT pg_advisory_unlock_all()").catch(() => undefined);
    // If it could not be given back, the lock goes with the connection.
    client.release(true);
  }
}

class RebuildStep {
  readonly #deps: RebuildDeps;
  readonly #options: Required<RebuildOptions>;
  readonly #client: PoolClient;
  readonly #telling: Telling;
  readonly #startedAt: number;
  readonly #rebuild: Rebuild;
  /** By shard: read and told up to here. What is younger than `lateMs` is read again by the next step. */
  readonly #read = new Map<number, string>();
  /** Told, and not yet among what is noted, since the next step reads it again. */
  #recent = { commits: 0, events: 0 };

  constructor(
    deps: RebuildDeps,
    options: RebuildOptions,
    client: PoolClient,
    rebuild: Rebuild,
    live: string,
  ) {
    this.#deps = deps;
    this.#options = { pageSize: 200, lateMs: 30_000, ...options };
    this.#client = client;
    this.#rebuild = rebuild;
    this.#startedAt = deps.now();
    this.#telling = { log: deps.log, isErased: erasedIn(live) };
  }

  async run(): Promise<RebuildProgress> {
    const { projection } = this.#options;
    for (;;) {
      if (!(await this.#readToTheEnd())) return this.#progress("working");
      if (await switchTables(this.#client, projection, this.#telling)) {
        return this.#progress("done");
      }
      if (this.#isOver()) return this.#progress("working");
    }
  }

  #isOver(): boolean {
    return this.#deps.now() >= this.#options.until;
  }

  /** @returns whether all shards are at their ends; if not, the time is over. */
  async #readToTheEnd(): Promise<boolean> {
    const open = new Set(Array.from({ length: logShards }, (_, shard) => shard));
    while (open.size > 0) {
      // In turn, so that conversations come at about the time of their turns. However short a step is, it looks
      // at each shard once: otherwise it might never find all of them at their ends.
      for (const shard of [...open]) {
        if (!(await this.#tellPage(shard))) open.delete(shard);
      }
      if (open.size > 0 && this.#isOver()) return false;
    }
    return true;
  }

  /** @returns whether there may be another page. */
  async #tellPage(shard: number): Promise<boolean> {
    const { pageSize, lateMs } = this.#options;
    const lateFrom = positionAt(Math.max(0, this.#deps.now() - lateMs));
    const noted = this.#rebuild.positions[shard] ?? "";
    const page = await this.#deps.log.readShard(shard, this.#read.get(shard) ?? noted, pageSize);
    const last = page.at(-1);
    if (last === undefined) return false;
    const settled = page.filter(({ position }) => position < lateFrom);
    await within(this.#client, async () => {
      await this.#client.query("SELECT pg_advisory_xact_lock($1)", [pageLock]);
      await this.#client.query(`SET LOCAL search_path TO ${rebuildSchema}`);
      for (const commit of page) await tellOpened(this.#client, this.#telling, commit);
      await this.#client.query("SET LOCAL search_path TO DEFAULT");
      await this.#note(shard, settled);
    });
    this.#read.set(shard, last.position);
    this.#recent.commits += page.length - settled.length;
    this.#recent.events += eventsIn(page) - eventsIn(settled);
    return page.length === pageSize;
  }

  async #note(shard: number, settled: readonly Commit[]): Promise<void> {
    const last = settled.at(-1);
    if (last !== undefined) this.#rebuild.positions[shard] = last.position;
    this.#rebuild.commits += settled.length;
    this.#rebuild.events += eventsIn(settled);
    const { positions, commits, events, projection } = this.#rebuild;
    await this.#client.query(
      `UPDATE rebuilds SET positions = $2, commits = $3, events = $4, working_ms = $5
       WHERE projection = $1`,
      [projection, JSON.stringify(positions), commits, events, this.#workingMs()],
    );
  }

  #workingMs(): number {
    return Math.max(1, this.#rebuild.workingMs + this.#deps.now() - this.#startedAt);
  }

  #progress(state: "working" | "done"): RebuildProgress {
    const commits = this.#rebuild.commits + this.#recent.commits;
    const events = this.#rebuild.events + this.#recent.events;
    const { projection, expected } = this.#rebuild;
    const workingMs = this.#workingMs();
    const left = Math.max(0, expected - commits);
    return {
      ...{ projection, state, commits, events, expected },
      eventsPerSecond: Math.round((events * 1_000) / workingMs),
      leftMs: commits === 0 ? null : Math.round((left * workingMs) / commits),
    };
  }
}

const eventsIn = (commits: readonly Commit[]): number =>
  commits.reduce((sum, { events }) => sum + events.length, 0);

/** The tables in use hear of an erasure at once; those of the rebuild when they come to it in the log. */
function erasedIn(live: string): Telling["isErased"] {
  return async (client, conversationId) => {
    const { rows } = await client.query(
      `SELECT 1 FROM "${live}".conversations WHERE id = $1 AND erased_at IS NOT NULL
       UNION ALL SELECT 1 FROM ${rebuildSchema}.conversations WHERE id = $1 AND erased_at IS NOT NULL`,
      [conversationId],
    );
    return rows.length > 0;
  };
}
