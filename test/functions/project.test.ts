import { randomUUID } from "node:crypto";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { DomainEvent } from "../../events/event-catalog.ts";
import { type Commit, conversationStream, rolloutStream } from "../../events/event-log.ts";
import { turnIdFor } from "../../events/ids.ts";
import { contextKey } from "../../events/redis-keys.ts";
import { cancel } from "../../functions/cancel.ts";
import { chat } from "../../functions/chat.ts";
import { dispatch } from "../../functions/dispatch.ts";
import { lazyDatabase } from "../../functions/lib/database.ts";
import { execute } from "../../functions/lib/execute.ts";
import { eraseRows } from "../../functions/lib/history/projection.ts";
import { migrate } from "../../functions/lib/migrate.ts";
import { rollouts } from "../../functions/lib/streams.ts";
import { migrations } from "../../functions/migrations/migrations.ts";
import { project } from "../../functions/project.ts";
import { report } from "../../functions/report.ts";
import { adopt, model } from "../events/rollout/histories.ts";
import { eventually } from "../support/eventually.ts";
import { freshDatabase, freshRedis } from "../support/parts.ts";
import {
  context,
  endReport,
  logger,
  reportsEvent,
  type Stage,
  socketEvent,
  startedReport,
  startStage,
  tableEvent,
  timings,
} from "./stage.ts";

let redisUrl: string;
let stage: Stage;
beforeAll(async () => {
  redisUrl = await freshRedis();
});
beforeEach(async () => {
  stage = await startStage({ redisUrl });
});
afterEach(() => stage.close());

async function ask(prompt: string, conversationId?: string) {
  const requestId = randomUUID();
  const connectionId = await stage.open("acme");
  const frame = { action: "chat", requestId, prompt, conversationId };
  await chat(stage.deps)(socketEvent(connectionId, frame), context);
  const reply = stage.framesTo(connectionId).at(-1);
  if (reply?.type !== "accepted") throw new Error(`${reply?.type} is not accepted`);
  return { turnId: turnIdFor("acme", requestId), conversationId: reply.conversationId };
}

const tellOf = (...reports: Parameters<typeof reportsEvent>) =>
  report(stage.deps)(reportsEvent(...reports), context);

/** Two conversations with turns that ended in every way, were taken over, and still run. */
async function write(): Promise<Commit[]> {
  const { turnId: completed, conversationId } = await ask("One?");
  await tellOf(startedReport(completed), endReport(completed, "It is one."));
  const { turnId: cancelled } = await ask("Two?", conversationId);
  await cancel(stage.deps)(
    socketEvent(await stage.open("acme"), { action: "cancel", turnId: cancelled }),
    context,
  );
  await tellOf(startedReport(cancelled), endReport(cancelled, "It", "cancelled"));
  const { turnId: failed } = await ask("Three?", conversationId);
  await tellOf(startedReport(failed), endReport(failed, "", "failed"));
  const other = await ask("Elsewhere?");
  await tellOf(
    startedReport(other.turnId),
    startedReport(other.turnId, 2),
    endReport(other.turnId, "Here.", "completed", 2),
  );
  await ask("And now?", other.conversationId);
  return stage.commits();
}

const run = (commits: readonly Commit[], deps = stage.deps) =>
  project(deps)(tableEvent(commits), context);
const none = { batchItemFailures: [] };

/** Every row of the history, in an order that does not depend on when it was written. */
async function rows(database = stage.deps.database) {
  const tables = {
    conversations: "id",
    conversation_turns: "conversation_id, ordinal",
    turns: "id",
    messages: "turn_id, role",
  };
  const found: Record<string, unknown[]> = {};
  for (const [table, order] of Object.entries(tables)) {
    found[table] = (await database.query(`SELECT * FROM ${table} ORDER BY ${order}`)).rows;
  }
  return found;
}

/** The same every time, and another for each seed (mulberry32). */
function shuffled<T>(items: readonly T[], seed: number): T[] {
  let state = seed;
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return items
    .map((item) => ({ item, key: random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
}

describe("project", () => {
  test("writes what people read", async () => {
    expect(await run(await write())).toEqual(none);
    const { conversations, conversation_turns, turns, messages } = await rows();
    expect(conversations).toHaveLength(2);
    expect(conversations).toContainEqual(
      expect.objectContaining({ title: "One?", tenant_id: "acme", turns: 3, log_version: 3 }),
    );
    expect(conversation_turns).toHaveLength(5);
    const byStatus = Map.groupBy(turns as { status: string }[], ({ status }) => status);
    expect(byStatus.get("completed")).toHaveLength(2);
    expect(byStatus.get("completed")).toContainEqual(
      expect.objectContaining({
        finish_reason: "stop",
        prompt_tokens: 5,
        completion_tokens: 3,
        timings,
        log_version: 3,
      }),
    );
    expect(byStatus.get("completed")).toContainEqual(
      expect.objectContaining({ epoch: "2", leader_id: "leader-2" }),
    );
    expect(byStatus.get("cancelled")).toMatchObject([
      { finish_reason: "cancelled", cancel_requested: true },
    ]);
    expect(byStatus.get("failed")).toMatchObject([
      {
        finish_reason: "failed",
        error_code: "internal",
        error_message: "It broke.",
        timings: null,
      },
    ]);
    expect(byStatus.get("requested")).toMatchObject([{ ended_at: null, epoch: "0" }]);
    expect(messages).toHaveLength(5 + 4);
    expect(messages).toContainEqual(
      expect.objectContaining({ role: "assistant", content: "It is one." }),
    );
  });

  test("never waits for more connections than there are, however much there is to tell", async () => {
    const { log, database } = stage.deps;
    const ids = Array.from({ length: 20 }, () => `conv_${randomUUID()}`);
    const started = (conversationId: string) => ({
      ...{ type: "ConversationStarted", version: 1, at: Date.now() },
      ...{ conversationId, tenantId: "acme", title: "One?" },
    });
    const commits = await Promise.all(
      ids.map((id) => log.append(conversationStream(id), 0, [started(id) as DomainEvent])),
    );
    const asked = { now: 0, most: 0 };
    const connect = async () => {
      asked.most = Math.max(asked.most, ++asked.now);
      const client = await database.connect();
      const release = () => {
        asked.now--;
        client.release();
      };
      return { query: client.query.bind(client), release };
    };
    const counted: typeof database = Object.assign(Object.create(database), { connect });
    const tell = project({ ...stage.deps, database: counted });
    // Two shards of the log at the same time.
    const halves = [commits.slice(0, 10), commits.slice(10)].map((half) => tableEvent(half));
    await Promise.all(halves.map((half) => tell(half, context)));
    expect((await rows())["conversations"]).toHaveLength(20);
    expect(asked.most).toBe(4);
    expect(asked.now).toBe(0);
  });

  test("does not stand in the way of who erases the conversation meanwhile", async () => {
    const { turnId, conversationId } = await ask("One?");
    await run(await stage.commits());
    // One commit says that it was started and how it has ended.
    await tellOf(endReport(turnId, "It is one."));
    const ended = (await stage.commits()).slice(-1);
    const { database } = stage.deps;
    const eraser = await database.connect();
    await eraser.query("BEGIN");
    await eraser.query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [
      conversationStream(conversationId),
    ]);
    const told = run(ended);
    await eventually(async () => {
      const waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
      return (await database.query(waiting)).rows.length > 0;
    });
    await eraseRows(eraser, conversationId);
    await eraser.query("COMMIT");
    eraser.release();
    expect(await told).toEqual(none);
  });

  test("is the same after every commit came twice", async () => {
    const commits = await write();
    await run(commits);
    const once = await rows();
    expect(await run(commits)).toEqual(none);
    expect(await run(commits.flatMap((commit) => [commit, commit]))).toEqual(none);
    expect(await rows()).toEqual(once);
  });

  test("is the same in whatever order the commits come", async () => {
    const commits = await write();
    await run(commits);
    const inOrder = await rows();
    for (const seed of [1, 2, 3, 4]) {
      const database = lazyDatabase(await freshDatabase(), logger);
      await migrate(database);
      const deps = { ...stage.deps, database };
      // One by one, so that a commit meets the database without its predecessors.
      for (const commit of shuffled([...commits, ...commits], seed)) {
        expect(await run([commit], deps)).toEqual(none);
      }
      expect(await rows(database)).toEqual(inOrder);
      await database.end();
    }
  });

  test("rebuilds the history that was thrown away", async () => {
    const commits = await write();
    await run(commits);
    const before = await rows();
    await stage.deps.database.query("TRUNCATE conversations, conversation_turns, turns, messages");
    await run(commits);
    expect(await rows()).toEqual(before);
  });

  test("is the same when instances work on the same commits at the same time", async () => {
    const commits = await write();
    const results = await Promise.all([run(commits), run(commits.toReversed()), run(commits)]);
    expect(results).toEqual([none, none, none]);
    const together = await rows();
    await stage.deps.database.query("TRUNCATE conversations, conversation_turns, turns, messages");
    await run(commits);
    expect(await rows()).toEqual(together);
  });

  test("catches up on the commits between what it knows and what it is given", async () => {
    const commits = await write();
    const { stream } = commits.findLast(({ version }) => version === 3) ?? { stream: "" };
    const own = commits.filter((commit) => commit.stream === stream);
    expect(await run(own.slice(0, 1))).toEqual(none);
    expect(await run(own.slice(2))).toEqual(none);
    const gap = await rows();
    expect(await run(own)).toEqual(none);
    expect(await rows()).toEqual(gap);
    const told = [...(gap["turns"] ?? []), ...(gap["conversations"] ?? [])];
    expect(told).toMatchObject([{ log_version: own.length }]);
  });

  test("gives back the first commit that failed, and has written the other streams'", async () => {
    const commits = await write();
    const event = tableEvent(commits);
    const broken = event.Records[2];
    const image = broken?.dynamodb?.NewImage;
    if (image === undefined) throw new Error("no third record");
    image["events"] = { S: "no JSON" };
    const result = await project(stage.deps)(event, context);
    expect(result).toEqual({ batchItemFailures: [{ itemIdentifier: "3" }] });
    const { turns = [] } = await rows();
    expect(turns.length).toBeGreaterThan(1);
    // Lambda comes again from there on; by then the record can be read.
    expect(await run(commits.slice(2))).toEqual(none);
    const afterwards = await rows();
    await run(commits);
    expect(await rows()).toEqual(afterwards);
  });

  test("fails while PostgreSQL is away, and leaves no half of a commit", async () => {
    const commits = await write();
    const away = lazyDatabase("postgres://nobody@127.0.0.1:9/none", logger);
    const result = await run(commits, { ...stage.deps, database: away });
    expect(result).toEqual({ batchItemFailures: [{ itemIdentifier: "1" }] });
    await away.end();
  });

  test("keeps a text that PostgreSQL cannot hold as it is", async () => {
    await ask("with a \u0000 inside");
    expect(await run(await stage.commits())).toEqual(none);
    const { messages } = await rows();
    const { conversations } = await rows();
    expect(conversations).toMatchObject([{ title: "with a \ufffd inside" }]);
    expect(messages).toMatchObject([{ content: "with a \ufffd inside" }]);
  });

  test("passes over what was erased from the table", async () => {
    const event = tableEvent(await write());
    for (const record of event.Records) {
      record.eventName = "REMOVE";
      delete record.dynamodb?.NewImage;
    }
    expect(await project(stage.deps)(event, context)).toEqual(none);
  });

  test("warms the context of a conversation whose turn has ended", async () => {
    const { turnId, conversationId } = await ask("One?");
    await tellOf(endReport(turnId, "It is one."));
    await run(await stage.commits());
    const cached = await stage.deps.redis.get(contextKey(conversationId));
    expect(JSON.parse(cached ?? "")).toEqual([
      {
        turnId,
        messages: [
          { role: "user", content: "One?" },
          { role: "assistant", content: "It is one." },
        ],
      },
    ]);
  });
});

describe("migrate", () => {
  test("applies each file once, also when two processes start together", async () => {
    const database = lazyDatabase(await freshDatabase(), logger);
    const applied = await Promise.all([migrate(database), migrate(database)]);
    const names = migrations.map(({ name }) => name);
    expect(applied.flat().sort()).toEqual(names.toSorted());
    expect(await migrate(database)).toEqual([]);
    const { rows: known } = await database.query("SELECT name FROM migrations");
    expect(known).toEqual(names.map((name) => ({ name })));
    await database.end();
  });
});

test("a turn's place is known even before the turn", async () => {
  await ask("One?");
  const commits = await stage.commits();
  const first = commits.filter(({ stream }) => stream.startsWith(conversationStream("")));
  expect(await run(first)).toEqual(none);
  expect(await rows()).toMatchObject({ conversations: [{ turns: 1 }], turns: [] });
});

test("of groups and rollouts only the models are noted, and they hold nothing up", async () => {
  await ask("One?");
  await execute(stage.deps.log, rollouts, model, () => adopt);
  const commits = await stage.commits();
  expect(commits.map(({ stream }) => stream)).toContain(rolloutStream(model));
  expect(await run(commits)).toEqual(none);
  expect(await dispatch(stage.deps)(tableEvent(commits), context)).toEqual(none);
  const { rows: noted } = await stage.deps.database.query("SELECT * FROM rollouts");
  expect(noted).toEqual([{ model, log_version: 1 }]);
  expect(await rows()).toMatchObject({ conversations: [{ turns: 1 }], turns: [{}] });
});
