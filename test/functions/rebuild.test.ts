import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { DomainEvent } from "../../events/event-catalog.ts";
import { type EventLog, logShards } from "../../events/event-log.ts";
import { memoryEventLog } from "../../events/event-log-memory.ts";
import { positionSource } from "../../events/ids.ts";
import { abandonRebuild, type RebuildDeps, rebuild } from "../../functions/lib/data/rebuild.ts";
import { eraseInRebuild, historyTables } from "../../functions/lib/data/rebuild-tables.ts";
import { type Database, lazyDatabase } from "../../functions/lib/database.ts";
import { eraseRows, tell } from "../../functions/lib/history/projection.ts";
import { migrate } from "../../functions/lib/migrate.ts";
import { inTransaction } from "../../functions/lib/transaction.ts";
import { writeHistory } from "../support/made-history.ts";
import { freshDatabase } from "../support/parts.ts";
import { logger } from "./stage.ts";

let url: string;
let database: Database;
let log: EventLog;
let deps: RebuildDeps & Parameters<typeof tell>[0];

beforeEach(async () => {
  url = await freshDatabase();
  database = lazyDatabase(url, logger);
  await migrate(database);
  log = memoryEventLog();
  deps = { database, log, openCommits: async (commits) => [...commits], now: Date.now };
});
afterEach(() => database.end());

const soon = () => Date.now() + 30_000;
const options = { projection: "history", pageSize: 50, lateMs: 0 } as const;
const rebuildAll = (more: Partial<Parameters<typeof rebuild>[1]> = {}, own: RebuildDeps = deps) =>
  rebuild(own, { ...options, until: soon(), ...more });

/** Tells the tables in use what is in the log, commit by commit. */
async function project(after = ""): Promise<string> {
  let last = after;
  for (let shard = 0; shard < logShards; shard++) {
    for (const commit of await log.readShard(shard, after, 100_000)) {
      await tell(deps, commit);
      if (commit.position > last) last = commit.position;
    }
  }
  return last;
}

/** SHA-256 over all rows of each table, in the order of their text. */
async function fingerprints(): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const table of historyTables) {
    const { rows } = await database.query(`SELECT t::text AS row FROM ${table} t ORDER BY 1`);
    const hash = createHash("sha256").update(rows.map(({ row }) => row).join("\n"));
    found[table] = `${rows.length} ${hash.digest("hex")}`;
  }
  return found;
}

/** Columns, indexes and constraints, by name. */
async function schemaOf() {
  const { rows } = await database.query(
    `SELECT indexname AS name, indexdef AS definition FROM pg_indexes WHERE schemaname = 'public'
     UNION ALL SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
       WHERE connamespace = 'public'::regnamespace
     UNION ALL SELECT table_name || '.' || column_name, data_type || is_nullable || coalesce(column_default, '')
       FROM information_schema.columns WHERE table_schema = 'public'
     ORDER BY 1, 2`,
  );
  return rows;
}

async function schemas(): Promise<string[]> {
  const { rows } = await database.query(
    "SELECT nspname AS name FROM pg_namespace WHERE nspname LIKE 'axon%'",
  );
  return rows.map(({ name }) => name);
}

// Each rebuilds several times; a machine that does much else takes its time.
describe("a rebuild", { timeout: 120_000 }, () => {
  test("comes to the same bytes and the same schema as the projection, once and again", async () => {
    await writeHistory(log, { turns: 20 });
    await project();
    const [projected, schema] = [await fingerprints(), await schemaOf()];
    expect(Object.values(projected).every((one) => !one.startsWith("0 "))).toBe(true);
    // Whatever is wrong in the tables in use is right after it.
    await database.query("UPDATE messages SET content = 'wrong'");
    const first = await rebuildAll();
    expect(first).toMatchObject({ state: "done", leftMs: 0 });
    expect(first.events).toBeGreaterThan(60);
    expect(await fingerprints()).toEqual(projected);
    expect(await rebuildAll()).toMatchObject({ state: "done", events: first.events });
    expect(await fingerprints()).toEqual(projected);
    expect(await schemaOf()).toEqual(schema);
    expect(await schemas()).toEqual([]);
  });

  test("goes on where it was, in steps, and says how far it is", async () => {
    await writeHistory(log, { turns: 16 });
    await project();
    const projected = await fingerprints();
    let now = Date.now();
    // Each look at the clock takes half a second.
    const slow = { ...deps, now: () => (now += 500) };
    const steps = [];
    do steps.push(await rebuildAll({ until: now + 3_000, pageSize: 3 }, slow));
    while (steps.at(-1)?.state === "working");
    expect(steps.length).toBeGreaterThan(3);
    const commits = steps.map((step) => step.commits);
    expect(commits).toEqual(commits.toSorted((a, b) => a - b));
    expect(steps[1]?.leftMs).toBeGreaterThan(0);
    expect(steps.at(-1)).toMatchObject({ state: "done", leftMs: 0 });
    expect(await fingerprints()).toEqual(projected);
  });

  test("loses nothing and repeats nothing while the projection goes on", async () => {
    await writeHistory(log, { turns: 12 });
    let told = await project();
    let isWriting = true;
    const writing = (async () => {
      for (let i = 0; i < 6; i++) {
        await writeHistory(log, { turns: 2 });
        told = await project(told);
      }
      isWriting = false;
    })();
    const reading = (async () => {
      while (isWriting) {
        // Readers never find a table missing, empty or half.
        const { rows } = await database.query("SELECT count(*)::int AS count FROM turns");
        expect(rows[0].count).toBeGreaterThanOrEqual(12);
        await sleep(20);
      }
    })();
    while (isWriting) expect(await rebuildAll()).toMatchObject({ state: "done" });
    await Promise.all([writing, reading]);
    const after = await fingerprints();
    await rebuildAll();
    expect(await fingerprints()).toEqual(after);
    expect(after["turns"]).toMatch(/^\d\d+ /);
  });

  test("has what the tables in use know and the order of the log does not show yet", async () => {
    await writeHistory(log, { turns: 10 });
    await project();
    const projected = await fingerprints();
    const isLate = new Set(
      (await log.readShard(0, "", 1_000)).slice(-5).map((one) => one.position),
    );
    const index: EventLog = {
      ...log,
      readShard: async (shard, after, limit) =>
        (await log.readShard(shard, after, limit)).filter(({ position }) => !isLate.has(position)),
    };
    await rebuildAll({}, { ...deps, log: index });
    expect(await fingerprints()).toEqual(projected);
  });

  test("reads the last moments again, in which commits can come late", async () => {
    const positionsOf = positionSource();
    const positions = Array.from({ length: 40 }, () => positionsOf());
    // Of every two the later one is written first.
    log = memoryEventLog(
      () => positions.splice(positions.length % 2 === 0 ? 1 : 0, 1)[0] ?? positionsOf(),
    );
    deps = { ...deps, log };
    await writeHistory(log, { turns: 3 });
    let now = Date.now();
    const slow = { ...deps, now: () => (now += 100) };
    await rebuildAll({ until: now + 350, pageSize: 2, lateMs: 60_000 }, slow);
    const { rows } = await database.query("SELECT positions FROM rebuilds");
    expect(rows).toEqual([{ positions: {} }]);
    await rebuildAll();
    const rebuilt = await fingerprints();
    await project();
    expect(await fingerprints()).toEqual(rebuilt);
  });

  test("survives a kill at any statement", async () => {
    await writeHistory(log, { turns: 2 });
    await project();
    const projected = await fingerprints();
    const statements = await countStatements(() => rebuildAll({ pageSize: 8 }));
    expect(statements).toBeGreaterThan(50);
    // A prime, so that the kills fall into all kinds of statements.
    for (let dieAt = 1; dieAt < statements; dieAt += 13) {
      await expect(dying(dieAt, () => rebuildAll({ pageSize: 8 }))).rejects.toThrow("killed");
      expect(await fingerprints()).toEqual(projected);
      expect(await rebuildAll({ pageSize: 8 })).toMatchObject({ state: "done" });
      expect(await fingerprints()).toEqual(projected);
    }
  });

  test("is done by one at a time, and can be thrown away", async () => {
    await writeHistory(log, { turns: 4 });
    const own = lazyDatabase(url, logger);
    const [one, other] = await Promise.all([
      rebuildAll({ pageSize: 5 }),
      rebuildAll({ pageSize: 5 }, { ...deps, database: own }),
    ]);
    await own.end();
    expect([one.state, other.state].sort()).toEqual(["busy", "done"]);
    await rebuildAll({ until: 0, pageSize: 1 });
    expect(await schemas()).toEqual(["axon_rebuild"]);
    expect(await abandonRebuild(deps, "history")).toMatchObject({ state: "dropped" });
    expect(await abandonRebuild(deps, "history")).toMatchObject({ state: "none" });
    expect(await schemas()).toEqual([]);
  });

  test("begins anew when the schema has changed since it began", async () => {
    await writeHistory(log, { turns: 5 });
    await project();
    const projected = await fingerprints();
    await rebuildAll({ until: 0, pageSize: 1 });
    await database.query("UPDATE rebuilds SET migration = '0000_older.sql'");
    await database.query("DROP TABLE axon_rebuild.messages");
    expect(await rebuildAll()).toMatchObject({ state: "done" });
    expect(await fingerprints()).toEqual(projected);
  });

  test("waits for who uses the tables, and not for ever", async () => {
    await writeHistory(log, { turns: 3 });
    const reader = await database.connect();
    await reader.query("BEGIN; SELECT count(*) FROM turns");
    expect(await rebuildAll({ until: Date.now() + 1_000 })).toMatchObject({ state: "working" });
    await reader.query("COMMIT");
    reader.release();
    expect(await rebuildAll()).toMatchObject({ state: "done" });
  });

  test("has no word of what was erased before it began, while it went on, or as it switched", async () => {
    const { conversationIds } = await writeHistory(log, { turns: 12 });
    await project();
    const [before = "", during = ""] = conversationIds;
    await eraseFact(before);
    let now = Date.now();
    await rebuildAll({ until: now + 900, pageSize: 5 }, { ...deps, now: () => (now += 100) });
    // The fact is told to the tables in use, and a dump of the others has no word of it either.
    await eraseFact(during);
    await eraseInRebuild(database, during);
    for (const schema of ["public", "axon_rebuild"]) {
      const { rows } = await database.query(
        `SELECT 1 FROM ${schema}.messages JOIN ${schema}.turns ON id = turn_id WHERE conversation_id = ANY($1)`,
        [[before, during]],
      );
      expect(rows, schema).toEqual([]);
      const titled = await database.query(
        `SELECT 1 FROM ${schema}.conversations WHERE id = ANY($1) AND title <> ''`,
        [[during]],
      );
      expect(titled.rows, schema).toEqual([]);
    }
    const projected = await fingerprints();
    expect(await rebuildAll()).toMatchObject({ state: "done" });
    expect(await fingerprints()).toEqual(projected);
    expect(projected["messages"]).not.toMatch(/^0 /);
  });
});

async function eraseFact(conversationId: string): Promise<void> {
  const stream = `conversation/${conversationId}`;
  const version = (await log.read(stream)).at(-1)?.version ?? 0;
  const event: DomainEvent = {
    ...{ type: "ConversationErased", version: 1, at: Date.now(), conversationId, by: "operator" },
  };
  await tell(deps, await log.append(stream, version, [event]));
  await inTransaction(database, (client) => eraseRows(client, conversationId));
}

async function countStatements(work: () => Promise<unknown>): Promise<number> {
  let count = 0;
  await watching(() => count++, work);
  return count;
}

const dying = (nth: number, work: () => Promise<unknown>) => {
  let count = 0;
  return watching((connection) => {
    if (++count !== nth) return;
    connection.stream.destroy();
    throw new Error("killed");
  }, work);
};

interface Connection {
  stream: { destroy(): void };
}

/** Runs `work` while each statement of the pool's next connection is seen before it is sent. */
async function watching(
  see: (connection: Connection) => void,
  work: () => Promise<unknown>,
): Promise<unknown> {
  const connect = database.connect.bind(database);
  const watched = async () => {
    const client = await connect();
    const query = client.query.bind(client);
    Object.assign(client, {
      query: (...args: Parameters<typeof query>) => {
        see((client as unknown as { connection: Connection }).connection);
        return query(...args);
      },
    });
    return client;
  };
  Object.assign(database, { connect: watched });
  try {
    return await work();
  } finally {
    Object.assign(database, { connect });
  }
}
