import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cachedDataKeys } from "../../events/data-keys.ts";
import { dynamoDbDataKeys } from "../../events/data-keys-dynamodb.ts";
import { dynamoDbEventLog } from "../../events/event-log-dynamodb.ts";
import { sealedEventLog } from "../../events/event-log-sealed.ts";
import { turnIdFor } from "../../events/ids.ts";
import { turnJobKey, turnKey } from "../../events/redis-keys.ts";
import { chat } from "../../functions/chat.ts";
import { completions } from "../../functions/completions.ts";
import { type DataAnswer, data } from "../../functions/data.ts";
import { erase } from "../../functions/erase.ts";
import { history } from "../../functions/history.ts";
import type { Deps } from "../../functions/lib/deps.ts";
import { refreshContext } from "../../functions/lib/turns/context.ts";
import { project } from "../../functions/project.ts";
import { report } from "../../functions/report.ts";
import { resume } from "../../functions/resume.ts";
import { rawDatabase, rawLog, rawRedis, rawStores } from "./raw-stores.ts";
import {
  context,
  endReport,
  httpEvent,
  reportsEvent,
  type Stage,
  socketEvent,
  startedReport,
  startStage,
  tableEvent,
  writeStream,
} from "./stage.ts";

let stage: Stage;
beforeAll(async () => {
  stage = await startStage();
});
afterAll(() => stage.close());

let words = 0;
/** A word that nothing else holds. */
const newWord = (): string => `zebra${words++}${randomUUID().slice(0, 8)}`;

async function ask(
  prompt: string,
  conversationId?: string,
  { tenantId = "acme", deps = stage.deps } = {},
) {
  const requestId = randomUUID();
  const connectionId = await stage.open(tenantId);
  const sampling = { stop: [`${prompt.split(" ")[0]}:`] };
  const frame = { action: "chat", requestId, prompt, conversationId, sampling };
  await chat(deps)(socketEvent(connectionId, frame), context);
  const reply = stage.framesTo(connectionId).at(-1);
  if (reply?.type !== "accepted") throw new Error(`not accepted: ${JSON.stringify(reply)}`);
  return { turnId: turnIdFor(tenantId, requestId), conversationId: reply.conversationId };
}

let told = "";
/** Projects what is new. */
async function tell() {
  const commits = (await stage.commits()).filter(({ position }) => position > told);
  await project(stage.deps)(tableEvent(commits), context);
  told = commits.at(-1)?.position ?? told;
}

/** A conversation of three turns (one has failed), whose words are in every store. */
async function converse(word: string, { tenantId = "acme" } = {}) {
  const first = await ask(`${word} is what I ask`, undefined, { tenantId });
  const { conversationId } = first;
  await answer(first.turnId, `${word} is the answer.`);
  const second = await ask(`${word} again`, conversationId, { tenantId });
  await answer(second.turnId, `${word} was too much`, "failed");
  const third = await ask(`${word} once more`, conversationId, { tenantId });
  await answer(third.turnId, `${word} at last`);
  await tell();
  await refreshContext(stage.deps, conversationId);
  return { conversationId, turnIds: [first.turnId, second.turnId, third.turnId] };
}

async function answer(turnId: string, text: string, type: "completed" | "failed" = "completed") {
  await writeStream(stage.deps, turnId, text, type === "failed" ? "failed" : "stop");
  await stage.deps.redis.set(turnJobKey(turnId), JSON.stringify({ prompt: text }));
  const end = endReport(turnId, text, type);
  if (end.type === "failed") end.message = `The engine could not read "${text}".`;
  await report(stage.deps)(reportsEvent(startedReport(turnId), end), context);
}

async function command(payload: unknown, deps: Deps = stage.deps): Promise<DataAnswer> {
  return data(deps)(payload, context);
}
const eraseNow = (conversationId: string, deps?: Deps) =>
  command({ command: "erase", conversationId, stepMs: 100 }, deps);
const factsOf = async (conversationId: string) =>
  tableEvent((await stage.commits()).filter(({ stream }) => stream.endsWith(conversationId)));

describe("erasing a conversation", () => {
  test("leaves none of its words in any store, and every one of another's", async () => {
    const [gone, kept] = [newWord(), newWord()];
    const { conversationId, turnIds } = await converse(gone);
    await converse(kept);
    expect(await rawLog(stage), "sealed from the start").not.toMatch(`${gone}|${kept}`);
    expect(await rawDatabase(stage)).toContain(gone);
    expect(await rawRedis(stage)).toContain(gone);

    const erasure = { conversationId, turns: 3, running: null, plainCommits: 0 };
    expect(await eraseNow(conversationId)).toEqual({ ok: true, erasure });
    expect(await rawStores(stage)).not.toContain(gone);
    expect(await rawDatabase(stage)).toContain(kept);
    expect(await rawRedis(stage)).toContain(kept);

    // The facts stay: that it was asked and answered, when, and what it has cost.
    const commits = await stage.deps.log.read(`turn/${turnIds[0]}`);
    expect(commits.flatMap(({ events }) => events)).toMatchObject([
      { type: "TurnRequested", prompt: "", erased: true },
      { type: "TurnStarted" },
      { type: "TurnCompleted", text: "", usage: { promptTokens: 5 }, erased: true },
    ]);
    const { rows } = await stage.deps.database.query(
      "SELECT status, prompt_tokens FROM turns WHERE conversation_id = $1 ORDER BY requested_at",
      [conversationId],
    );
    expect(rows.map(({ status }) => status)).toEqual(["completed", "failed", "completed"]);
    expect(rows[0].prompt_tokens).toBe(5);
  });

  test("comes to the same after every commit came once more, and again", async () => {
    const gone = newWord();
    const { conversationId } = await converse(gone);
    const late = tableEvent((await stage.commits()).slice(-20));
    await eraseNow(conversationId);
    const erased = await rawDatabase(stage);
    await project(stage.deps)(late, context);
    await project(stage.deps)(await factsOf(conversationId), context);
    await eraseNow(conversationId);
    expect(await rawDatabase(stage)).toBe(erased);
    expect(await rawStores(stage)).not.toContain(gone);
  });

  test("goes on from wherever it has died", async () => {
    let calls = 0;
    const gone: string[] = [];
    for (let dieAt = 1; ; dieAt++) {
      const word = newWord();
      gone.push(word);
      const { turnId, conversationId } = await ask(`${word}?`);
      await answer(turnId, `${word}!`);
      await tell();
      calls = 0;
      const died = await eraseNow(
        conversationId,
        dyingAt(dieAt, () => ++calls),
      );
      if (died.ok) break;
      // With the fact in the log the table's stream goes on; without it whoever has asked asks again.
      const facts = await factsOf(conversationId);
      if (JSON.stringify(facts).includes("ConversationErased")) {
        await erase(stage.deps)(facts, context);
      } else {
        await eraseNow(conversationId);
      }
    }
    expect(await rawStores(stage)).not.toMatch(gone.join("|"));
    expect(calls).toBeGreaterThan(10);
  });

  test("ends a running turn; what its leader says afterwards is a fact without words", async () => {
    const gone = newWord();
    const { turnId, conversationId } = await ask(`${gone}?`);
    await writeStream(stage.deps, turnId, `${gone} so`, "goes on");
    await report(stage.deps)(reportsEvent(startedReport(turnId)), context);
    await tell();
    expect(await eraseNow(conversationId)).toMatchObject({ erasure: { running: turnId } });
    expect(await stage.deps.redis.hget(turnKey(turnId), "cancel")).toBe("user");
    expect(await rawLog(stage)).not.toContain(gone);
    // The leader had not heard of it yet.
    await writeStream(stage.deps, turnId, `${gone} so on`, "cancelled");
    await report(stage.deps)(
      reportsEvent(endReport(turnId, `${gone} so on`, "cancelled")),
      context,
    );
    await tell();
    expect(await rawStores(stage)).not.toContain(gone);
    const { rows } = await stage.deps.database.query("SELECT status FROM turns WHERE id = $1", [
      turnId,
    ]);
    expect(rows).toEqual([{ status: "cancelled" }]);
  });

  test("wins over keys in the caches of others", async () => {
    const gone = newWord();
    const other = withOwnCache(stage);
    const { turnId, conversationId } = await ask(`${gone}?`, undefined, { deps: other });
    await report(other)(reportsEvent(endReport(turnId, `${gone}!`)), context);
    const commits = await stage.commits();
    await eraseNow(conversationId);
    // It can still open them, and tells them for the first time, or once more.
    const own = commits.filter(({ stream }) => stream === `turn/${turnId}`);
    expect(JSON.stringify(await other.openCommits(own))).toContain(gone);
    await project(other)(tableEvent(commits), context);
    expect(await rawStores(stage)).not.toContain(gone);
  });

  test("wins over a report that has the key in its cache", async () => {
    const gone = newWord();
    const other = withOwnCache(stage);
    const { turnId, conversationId } = await ask(`${gone}?`);
    await writeStream(stage.deps, turnId, `${gone} so`, "goes on");
    await report(other)(reportsEvent(startedReport(turnId)), context);
    await tell();
    await eraseNow(conversationId);
    await writeStream(stage.deps, turnId, `${gone} so on`, "cancelled");
    const end = endReport(turnId, `${gone} so on`, "cancelled");
    await report(other)(reportsEvent(end), context);
    expect(await rawRedis(stage)).toContain(gone);
    await tell();
    expect(await rawStores(stage)).not.toContain(gone);
  });

  test("reaches what was written before there were keys", async () => {
    const gone = newWord();
    const plain = dynamoDbEventLog(stage.dynamoDb, stage.tableName);
    const old = { ...stage.deps, log: plain };
    const { turnId, conversationId } = await ask(`${gone}?`, undefined, { deps: old });
    await report(old)(reportsEvent(endReport(turnId, `${gone}!`)), context);
    await ask("And sealed?", conversationId);
    await tell();
    expect(await rawLog(stage)).toContain(gone);
    // Its title, its prompt and its answer.
    expect(await eraseNow(conversationId)).toMatchObject({ erasure: { plainCommits: 3 } });
    expect(await rawStores(stage)).not.toContain(gone);
  });

  test("takes no turn any more, and answers as one that is not there", async () => {
    const { conversationId, turnIds } = await converse(newWord());
    await eraseNow(conversationId);
    const connectionId = await stage.open("acme");
    await resume(stage.deps)(
      socketEvent(connectionId, { action: "resume", turnId: turnIds[0], after: 0 }),
      context,
    );
    expect(stage.framesTo(connectionId)).toMatchObject([{ type: "error", code: "turn_not_found" }]);
    const read = httpEvent(`/v1/chat/completions/${turnIds[0]}`);
    expect(await completions(stage.deps)(read, context)).toMatchObject({ statusCode: 404 });
    await expect(ask("Still there?", conversationId)).rejects.toThrow("conversation_not_found");
    expect(await command({ command: "erase", conversationId: "conv_none" })).toMatchObject({
      ok: false,
      error: { code: "conversation_not_found" },
    });
  });
});

describe("DELETE /api/conversations/{id}", () => {
  const remove = async (id: string, tenantId = "acme") => {
    const event = httpEvent(`/api/conversations/${id}`, { method: "DELETE", tenantId });
    const { statusCode, body = "" } = await history(stage.deps)(event, context);
    return { status: statusCode, body: JSON.parse(body) };
  };

  test("is done by the table's stream", async () => {
    const gone = newWord();
    const { conversationId } = await converse(gone);
    expect(await remove(conversationId, "rival")).toMatchObject({ status: 404 });
    expect(await rawDatabase(stage)).toContain(gone);
    const done = { status: 200, body: { conversationId, erased: true } };
    expect(await remove(conversationId)).toEqual(done);
    expect(await remove(conversationId)).toEqual(done);
    await erase(stage.deps)(await factsOf(conversationId), context);
    expect(await rawStores(stage)).not.toContain(gone);
    const shown = await history(stage.deps)(
      httpEvent(`/api/conversations/${conversationId}`),
      context,
    );
    expect(shown.statusCode).toBe(404);
  });
});

describe("erasing a tenant", () => {
  test("goes through all of its conversations, in steps, and through no other's", async () => {
    const [first, second, third, kept] = [newWord(), newWord(), newWord(), newWord()];
    await converse(first, { tenantId: "rival" });
    await converse(second, { tenantId: "rival" });
    await converse(kept);
    // PostgreSQL does not know of it yet.
    await ask(`${third}?`, undefined, { tenantId: "rival" });
    let asked = 0;
    let after: string | undefined;
    let erased = 0;
    do {
      // A clock that jumps a second with each look: no step gets far.
      let now = Date.now();
      const deps = { ...stage.deps, now: () => (now += 1_000) };
      const payload = { command: "erase", tenantId: "rival", after, stepMs: 8_000 };
      const answered = await command(payload, deps);
      if (!answered.ok || !("erasure" in answered) || !("next" in answered.erasure)) throw answered;
      after = answered.erasure.next ?? undefined;
      erased += answered.erasure.erased;
      asked++;
    } while (after !== undefined);
    expect(asked).toBeGreaterThan(1);
    expect(erased).toBeGreaterThanOrEqual(3);
    expect(await rawStores(stage)).not.toMatch(`${first}|${second}|${third}`);
    expect(await rawDatabase(stage)).toContain(kept);
    const again = { ok: true, erasure: { erased: 0, running: [], next: null } };
    expect(await command({ command: "erase", tenantId: "rival" })).toEqual(again);
  });

  test.each([
    [{ command: "erase" }],
    [{ command: "erase", conversationId: "c", tenantId: "t" }],
    [{ command: "erase", conversationId: "../c" }],
    [{ command: "forget" }],
    [undefined],
  ])("refuses %j, and says why", async (payload) => {
    expect(await command(payload)).toMatchObject({ ok: false, error: { code: "invalid_field" } });
  });
});

/** Somebody else's process: it has keys of its own in memory. */
function withOwnCache({ deps, dynamoDb, tableName, keyTableName }: Stage): Deps {
  const dataKeys = cachedDataKeys(dynamoDbDataKeys(dynamoDb, keyTableName));
  const log = sealedEventLog(dynamoDbEventLog(dynamoDb, tableName), dataKeys);
  return { ...deps, log, openCommits: log.open, dataKeys };
}

/** Dependencies of a process that dies when it calls one of them for the nth time. */
function dyingAt(nth: number, count: () => number): Deps {
  const watched = <T extends object>(target: T): T =>
    new Proxy(target, {
      get(object, name) {
        const value: unknown = Reflect.get(object, name);
        if (typeof value !== "function") return value;
        return (...args: unknown[]) => {
          if (count() >= nth) throw new Error("died");
          return Reflect.apply(value, object, args);
        };
      },
    });
  const { log, redis, database, keyRegister, logEraser } = stage.deps;
  return {
    ...stage.deps,
    ...{ log: watched(log), redis: watched(redis), database: watched(database) },
    ...{ keyRegister: watched(keyRegister), logEraser: watched(logEraser) },
  };
}
