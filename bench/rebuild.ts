import { createHash, randomUUID } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { Pool } from "pg";
import { cachedDataKeys } from "../events/data-keys.ts";
import { dynamoDbDataKeys } from "../events/data-keys-dynamodb.ts";
import { conversationStream, type EventLog, logShards } from "../events/event-log.ts";
import { dynamoDbEventLog } from "../events/event-log-dynamodb.ts";
import { type SealedEventLog, sealedEventLog } from "../events/event-log-sealed.ts";
import { type RebuildProgress, rebuild } from "../functions/lib/data/rebuild.ts";
import { historyTables } from "../functions/lib/data/rebuild-tables.ts";
import { tell } from "../functions/lib/history/projection.ts";
import { migrate } from "../functions/lib/migrate.ts";
import { startAwsEmulators } from "../local/aws-emulators.ts";
import { startPostgres } from "../local/postgres.ts";
import { createEventTable, createKeyTable } from "../local/provision.ts";
import { writeHistory } from "../test/support/made-history.ts";
import { spread, table } from "./statistics.ts";

const usage = `npm run bench:rebuild -- [options]

Writes a log, projects it commit by commit, rebuilds it twice (the second time while the log is written to), and
compares all rows of all tables. Then, what sealing adds to an append. Prints tables in Markdown.

  --events N   about so many (default 100000)
  --help`;

const { values } = parseArgs({
  options: {
    events: { type: "string", default: "100000" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(usage);
  process.exit(0);
}
/** Of what writeHistory makes. */
const eventsPerTurn = 4.6;
const turns = Math.ceil(Number(values.events) / eventsPerTurn);

const dataDir = await mkdtemp(join(tmpdir(), "axon-bench-"));
await chmod(dataDir, 0o755);
const emulators = await startAwsEmulators({});
const postgres = await startPostgres({
  ...{ dataDir: join(dataDir, "postgres"), logFile: join(dataDir, "postgres.log") },
  durable: true,
});
const dynamoDb = new DynamoDBClient({
  ...{ endpoint: emulators.dynamoDb.url, region: "us-east-1" },
  credentials: { accessKeyId: "local", secretAccessKey: "local" },
});
await createEventTable(dynamoDb, "events");
await createKeyTable(dynamoDb, "keys");
const database = new Pool({ connectionString: postgres.url });
await migrate(database);
const stored = dynamoDbEventLog(dynamoDb, "events");
const sealedLog = () => sealedEventLog(stored, cachedDataKeys(dynamoDbDataKeys(dynamoDb, "keys")));

try {
  await main();
} finally {
  await database.end();
  dynamoDb.destroy();
  await Promise.all([postgres.stop(), emulators.stop()]);
  await rm(dataDir, { recursive: true, force: true });
}

async function main(): Promise<void> {
  const log = sealedLog();
  const rows: string[][] = [];
  const writing = await timed(() => writeHistory(log, { turns, sideBySide: 16 }));
  const { events } = writing.result;
  rows.push(row("written to the log, 16 side by side", events, writing.ms));
  const projecting = await timed(() => project(log));
  rows.push(row("projected commit by commit, 4 shards side by side", events, projecting.ms));
  const projected = await fingerprint();

  const first = await timed(() => rebuildAll(sealedLog()));
  rows.push(row("rebuilt", first.result.events, first.ms));
  const same = (await fingerprint()) === projected;

  const more = { isOver: false, events: 0 };
  const busy = keepWriting(log, more);
  const second = await timed(() => rebuildAll(sealedLog()));
  more.isOver = true;
  await busy;
  rows.push(row("rebuilt while turns were written and projected", second.result.events, second.ms));
  const live = await fingerprint();
  await rebuildAll(sealedLog());
  const sameAgain = (await fingerprint()) === live;

  console.log(table(["", "events", "s", "events/s"], rows));
  console.log(`\nAll rows of all tables, projection and rebuild: ${same ? "equal" : "DIFFERENT"}.`);
  console.log(
    `After ${more.events} more events during a rebuild: ${sameAgain ? "equal" : "DIFFERENT"}.`,
  );
  console.log(
    `The most memory of this process: ${Math.round(process.resourceUsage().maxRSS / 1_024)} MB.\n`,
  );
  await benchSealing();
  if (!same || !sameAgain) process.exitCode = 1;
}

async function timed<T>(work: () => Promise<T>): Promise<{ result: T; ms: number }> {
  const startedAt = performance.now();
  const result = await work();
  return { result, ms: performance.now() - startedAt };
}

function row(what: string, events: number, ms: number): string[] {
  const perSecond = Math.round((events * 1_000) / ms);
  return [what, String(events), (ms / 1_000).toFixed(1), String(perSecond)];
}

async function project(log: SealedEventLog): Promise<void> {
  const deps = { database, log, openCommits: log.open };
  const shards = Array.from({ length: logShards }, (_, shard) => shard);
  await Promise.all(
    shards.map(async (shard) => {
      for (let after = ""; ; ) {
        const page = await stored.readShard(shard, after, 100);
        for (const commit of page) await tell(deps, commit);
        const last = page.at(-1);
        if (last === undefined) return;
        after = last.position;
      }
    }),
  );
}

/** Turns as they come in, and the projection of each commit right after it. */
async function keepWriting(
  log: SealedEventLog,
  more: { isOver: boolean; events: number },
): Promise<void> {
  const telling: EventLog = {
    ...log,
    async append(...args) {
      const commit = await log.append(...args);
      await tell({ database, log, openCommits: log.open }, commit);
      return commit;
    },
  };
  while (!more.isOver) more.events += (await writeHistory(telling, { turns: 4 })).events;
}

async function rebuildAll(log: EventLog): Promise<RebuildProgress> {
  for (;;) {
    const until = Date.now() + 5_000;
    const progress = await rebuild(
      { database, log, now: Date.now },
      { projection: "history", until },
    );
    if (progress.state === "done") return progress;
    console.error(
      `${progress.commits} of ${progress.expected} commits, ${progress.eventsPerSecond} events/s, ` +
        `${Math.ceil((progress.leftMs ?? 0) / 1_000)} s left`,
    );
  }
}

async function fingerprint(): Promise<string> {
  const hash = createHash("sha256");
  for (const name of historyTables) {
    const { rows } = await database.query(`SELECT t::text AS row FROM ${name} t ORDER BY 1`);
    for (const { row: text } of rows as { row: string }[]) hash.update(`${name} ${text}\n`);
  }
  return hash.digest("hex");
}

/** The first append of a conversation makes its key; later ones know it, or look it up. */
async function benchSealing(): Promise<void> {
  const samples = 300;
  const kinds: [string, () => EventLog, boolean][] = [
    ["a conversation's first words, plain", () => stored, true],
    ["a conversation's first words, sealed", sealedLog, true],
    ["further words, plain", () => stored, false],
    ["further words, sealed, key at hand", sealedLog, false],
  ];
  const logs = kinds.map(([, make]) => make());
  const taken: number[][] = kinds.map(() => []);
  const ids = kinds.map(() => randomUUID());
  for (let i = 0; i < samples; i++) {
    for (const [k, [, , isNew]] of kinds.entries()) {
      const id = isNew ? randomUUID() : (ids[k] ?? "");
      const started = performance.now();
      await logs[k]?.append(conversationStream(id), isNew ? 0 : i, [
        {
          ...{ type: "ConversationStarted", version: 1, at: 1, conversationId: id },
          ...{ tenantId: "acme", title: "What is tensor parallelism?" },
        },
      ]);
      taken[k]?.push(performance.now() - started);
    }
  }
  const rows = kinds.map(([what], k) => [what, spread(taken[k] ?? [])]);
  console.log(table(["append to the log", "ms (median / p99)"], rows));
}
