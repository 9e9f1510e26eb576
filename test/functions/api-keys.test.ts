import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { apiKeyStream } from "../../events/event-log.ts";
import { connectionKey, keyConnectionsKey } from "../../events/redis-keys.ts";
import { connect } from "../../functions/connect.ts";
import { history } from "../../functions/history.ts";
import { apiKeyCheck } from "../../functions/lib/credentials/api-key-check.ts";
import { newApiKeyText, parseApiKeyText } from "../../functions/lib/credentials/api-key-text.ts";
import { authenticator } from "../../functions/lib/credentials/authenticate.ts";
import type { Deps } from "../../functions/lib/deps.ts";
import type { OpsAnswer } from "../../functions/lib/operations/run-operation.ts";
import { ops } from "../../functions/ops.ts";
import { project } from "../../functions/project.ts";
import { resume } from "../../functions/resume.ts";
import { HeardLogger } from "../support/heard-logger.ts";
import { context, httpEvent, type Stage, socketEvent, startStage, tableEvent } from "./stage.ts";

let stage: Stage;
let deps: Deps;
/** Unix ms; the test moves it. */
let time = Date.now();
const logger = new HeardLogger();
/** Everything that must never be in a log line. */
const secrets: string[] = [];
let told = 0;

beforeAll(async () => {
  stage = await startStage();
});
afterAll(() => stage.close());
beforeEach(() => {
  const now = () => time;
  const { log } = stage.deps;
  deps = { ...stage.deps, logger, now, authenticate: authenticator([], apiKeyCheck(log, now)) };
});

async function ask(command: string, fields: Record<string, unknown> = {}): Promise<OpsAnswer> {
  const answer = await ops(deps)({ command: `keys-${command}`, ...fields }, context);
  if (answer.ok && "secret" in answer && answer.secret !== undefined) secrets.push(answer.secret);
  return answer;
}

async function issue(fields: Record<string, unknown> = {}) {
  const answer = await ask("create", { tenantId: "acme", name: "a bot", ...fields });
  if (!answer.ok || !("key" in answer)) throw new Error(JSON.stringify(answer));
  return { ...answer.key, secret: answer.secret ?? "" };
}

/** Tells `project` what is new in the log. */
async function projected(): Promise<void> {
  const commits = await stage.commits();
  await project(deps)(tableEvent(commits.slice(told)), context);
  told = commits.length;
}

async function open(secret: string): Promise<{ status: number | undefined; id: string }> {
  const id = `c-${randomUUID()}`;
  const encoded = Buffer.from(secret).toString("base64url");
  const headers = { "Sec-WebSocket-Protocol": `axon.v1, axon.auth.${encoded}` };
  const { statusCode } = await connect(deps)({ ...socketEvent(id, ""), headers }, context);
  return { status: statusCode, id };
}

/** What a frame on an open connection is answered with. */
async function say(id: string) {
  const frame = { action: "resume", turnId: "turn_none", after: 0 };
  const result = await resume(deps)(socketEvent(id, frame), context);
  return { result, frame: stage.framesTo(id).at(-1), isClosed: stage.closed.includes(id) };
}

async function get(secret: string) {
  const headers = { authorization: `Bearer ${secret}` };
  const { statusCode, body = "" } = await history(deps)(
    httpEvent("/api/models", { headers }),
    context,
  );
  return { status: statusCode, body: JSON.parse(body) };
}

const alive = { code: "turn_not_found" };
const over = { type: "error", code: "unauthenticated", retryable: false };

describe("the text of a key", () => {
  test("names the key, and shows at sight that a character is wrong", () => {
    const { keyId, text, sha256 } = newApiKeyText();
    expect(text).toMatch(/^axon_[0-9a-z]{16}_[0-9a-z]{58}$/);
    const parsed = parseApiKeyText(text);
    expect(parsed?.keyId).toBe(keyId);
    expect(parsed?.hash.toString("hex")).toBe(sha256);
    for (let i = 0; i < text.length; i++) {
      const other = text[i] === "7" ? "8" : "7";
      expect(parseApiKeyText(text.slice(0, i) + other + text.slice(i + 1))).toBeUndefined();
    }
    expect(parseApiKeyText(text.slice(0, -1))).toBeUndefined();
    expect(newApiKeyText(keyId).text).not.toBe(text);
  });
});

describe("a key", () => {
  test("opens what its scopes say, for its tenant, and is bound to the connection", async () => {
    const { secret, ...key } = await issue({ scopes: ["chat"], userId: "bot" });
    expect(key).toMatchObject({ status: "good", tenantId: "acme", scopes: ["chat"] });
    const { status, id } = await open(secret);
    expect(status).toBe(200);
    expect(await deps.redis.hgetall(connectionKey(id))).toMatchObject({
      ...{ tenantId: "acme", userId: "bot", scopes: "chat", generation: "1" },
    });
    expect((await say(id)).frame).toMatchObject(alive);
    expect(await get(secret)).toMatchObject({ status: 403, body: { code: "forbidden" } });
  });

  test("is nowhere but with its owner: not in the log of events, nor in the table", async () => {
    const { keyId, secret } = await issue();
    await projected();
    const stored = JSON.stringify(await deps.log.read(apiKeyStream(keyId)));
    const { rows } = await deps.database.query("SELECT * FROM api_keys WHERE id = $1", [keyId]);
    expect(rows).toHaveLength(1);
    const hash = parseApiKeyText(secret)?.hash.toString("hex") ?? "";
    for (const text of [stored, JSON.stringify(rows)]) {
      expect(text).not.toContain(secret);
      expect(text).not.toContain(secret.slice(22));
    }
    expect(stored).toContain(hash);
    expect(JSON.stringify(rows)).not.toContain(hash.slice(0, 8));
  });

  test.each([
    ["no tenant", { tenantId: undefined }, "tenantId"],
    ["a scope that there is not", { scopes: ["everything"] }, "scopes.0"],
    ["no scope at all", { scopes: [] }, "scopes"],
    ["a time that is over", { expiresAt: 1 }, "expiresAt"],
    ["a field too many", { sha256: "0".repeat(64) }, "sha256"],
  ])("is not issued with %s", async (_, fields, field) => {
    const answer = await ask("create", { tenantId: "acme", name: "a bot", ...fields });
    expect(answer).toMatchObject({ ok: false, error: { code: "invalid_field", field } });
  });

  test("is not rotated or revoked where there is none", async () => {
    for (const command of ["rotate", "revoke"]) {
      const answer = await ask(command, { keyId: "0".repeat(16) });
      expect(answer).toMatchObject({ ok: false, error: { code: "not_found", field: "keyId" } });
    }
    expect(await ask("forget")).toMatchObject({ ok: false, error: { field: "command" } });
  });

  test("is listed by tenant, without what opens it", async () => {
    const { keyId, secret } = await issue({ tenantId: "lister", name: "first" });
    time += 1_000;
    const second = await issue({ tenantId: "lister", name: "second", expiresAt: time + 5_000 });
    await ask("rotate", { keyId, graceMs: 60_000 });
    await ask("revoke", { keyId: second.keyId });
    await projected();
    const answer = await ask("list", { tenantId: "lister" });
    expect(answer).toMatchObject({
      ok: true,
      keys: [
        { name: "second", status: "revoked", revokedAt: time, expiresAt: time + 5_000 },
        { name: "first", status: "good", rotatedAt: time, olderUntil: time + 60_000 },
      ],
    });
    expect(JSON.stringify(answer)).not.toContain(secret.slice(22, 30));
    const all = await ask("list");
    expect(all.ok && "keys" in all && all.keys.length).toBeGreaterThan(2);
  });
});

describe("what is no good key", () => {
  test("is refused, and says why only to who has the secret", async () => {
    const { keyId, secret } = await issue();
    await ask("revoke", { keyId });
    const messages: Record<string, RegExp> = {
      [secret]: /was revoked/,
      [newApiKeyText(keyId).text]: /There is no such key/,
      [newApiKeyText().text]: /There is no such key/,
      [`${secret.slice(0, -1)}_`]: /not a whole key/,
      axon_: /not a whole key/,
      nonsense: /missing, wrong or expired/,
    };
    for (const [credential, message] of Object.entries(messages)) {
      const { status, body } = await get(credential);
      expect(status).toBe(401);
      expect(body).toMatchObject({ ...over, message: expect.stringMatching(message) });
      expect((await open(credential)).status).toBe(401);
    }
  });

  test("is 'unavailable' while the log is away, not 'unauthenticated'", async () => {
    const { secret } = await issue();
    const away = () => Promise.reject(Object.assign(new Error("x"), { code: "ECONNREFUSED" }));
    const check = apiKeyCheck({ ...deps.log, read: away }, deps.now);
    deps = { ...deps, authenticate: authenticator([], check) };
    expect((await open(secret)).status).toBe(503);
    expect(await get(secret)).toMatchObject({ status: 503, body: { code: "unavailable" } });
  });

  test("costs one read of the log each half minute, however often it is tried", async () => {
    const read = vi.fn(deps.log.read);
    const check = apiKeyCheck({ ...deps.log, read }, deps.now);
    const { keyId, secret } = await issue();
    const { text: unknown } = newApiKeyText();
    const wrong = newApiKeyText(keyId).text;
    const tried = [secret, unknown, wrong, unknown, secret, wrong];
    await Promise.allSettled(tried.map(check));
    for (const text of tried) await check(text).catch(() => undefined);
    expect(read).toHaveBeenCalledTimes(2);
    time += 30_000;
    await check(secret);
    expect(read).toHaveBeenCalledTimes(3);
  });

  test("that was made up does not put good ones out of what was read", async () => {
    const read = vi.fn(deps.log.read);
    const check = apiKeyCheck(
      { ...deps.log, read: async (name) => (name === good ? read(name) : []) },
      deps.now,
    );
    const { keyId, secret } = await issue();
    const good = apiKeyStream(keyId);
    await check(secret);
    for (let i = 0; i < 6_000; i++) await check(newApiKeyText().text).catch(() => undefined);
    await check(secret);
    expect(read).toHaveBeenCalledTimes(1);
  });
});

describe("an end", () => {
  test("by revocation reaches connections that are open, and those alone", async () => {
    const { keyId, secret } = await issue();
    const other = await issue();
    const [mine, theirs, relayed] = [
      await open(secret),
      await open(other.secret),
      await open(secret),
    ];
    const relayId = `relay_${"0".repeat(16)}.x`;
    await deps.redis.rename(connectionKey(relayed.id), connectionKey(relayId));
    await deps.redis.zadd(keyConnectionsKey(keyId), time + 9_000, relayId);
    await ask("revoke", { keyId, reason: "leaked" });
    expect((await say(mine.id)).frame).toMatchObject(alive);
    await projected();
    const said = await say(mine.id);
    // With nothing named, the client takes it for the whole connection.
    expect(said).toMatchObject({ frame: over, isClosed: true });
    expect(said.frame).not.toHaveProperty("turnId");
    expect((await say(theirs.id)).frame).toMatchObject(alive);
    const { result } = await say(relayId);
    expect(result).toMatchObject({ statusCode: 410 });
    expect(JSON.parse(result.body ?? "")).toMatchObject([over]);
    await deps.redis.del(connectionKey(relayId));
  });

  test("by revocation refuses a connection that was let in by what was read before", async () => {
    const { keyId, secret } = await issue();
    await open(secret);
    await ask("revoke", { keyId });
    expect((await open(secret)).status).toBe(200);
    await projected();
    const { status, id } = await open(secret);
    expect(status).toBe(401);
    expect(await deps.redis.exists(connectionKey(id))).toBe(0);
    time += 30_000;
    expect(await get(secret)).toMatchObject({ status: 401 });
  });

  test("by rotation comes after the grace, for the older secret alone", async () => {
    const { keyId, secret: first } = await issue();
    const old = await open(first);
    const answer = await ask("rotate", { keyId, graceMs: 60_000 });
    if (!answer.ok || !("key" in answer)) throw new Error(JSON.stringify(answer));
    const second = answer.secret ?? "";
    await projected();
    time += 30_000;
    const [late, young] = [await open(first), await open(second)];
    expect([late.status, young.status]).toEqual([200, 200]);
    expect((await say(old.id)).frame).toMatchObject(alive);
    time += 30_000;
    expect(await get(first)).toMatchObject({
      body: { message: expect.stringMatching(/was rotated/) },
    });
    expect((await open(first)).status).toBe(401);
    for (const { id } of [old, late])
      expect(await say(id)).toMatchObject({ frame: over, isClosed: true });
    expect((await say(young.id)).frame).toMatchObject(alive);
    expect((await open(second)).status).toBe(200);
  });

  test("by rotation never keeps out the new secret where the key was read before", async () => {
    const { keyId, secret } = await issue();
    expect((await get(secret)).status).toBe(200);
    time += 2_000;
    await ask("rotate", { keyId, graceMs: 0 });
    expect((await get(secrets.at(-1) ?? "")).status).toBe(200);
    expect((await get(secret)).status).toBe(401);
    // Guesses for an id that is known are not worth a look at the log each.
    const read = vi.spyOn(stage.deps.log, "read");
    for (let i = 0; i < 5; i++) {
      expect((await get(newApiKeyText(keyId).text)).status).toBe(401);
    }
    expect(read.mock.calls.filter(([stream]) => stream === apiKeyStream(keyId))).toHaveLength(0);
    read.mockRestore();
  });

  test("by rotation without grace is at once", async () => {
    const { keyId, secret } = await issue();
    const { id } = await open(secret);
    await ask("rotate", { keyId, graceMs: 0 });
    await projected();
    expect((await say(id)).frame).toMatchObject(over);
    expect((await open(secret)).status).toBe(401);
  });

  test("by its own time needs nobody", async () => {
    const { keyId, secret } = await issue({ expiresAt: time + 1_000 });
    const { id } = await open(secret);
    expect((await say(id)).frame).toMatchObject(alive);
    time += 1_000;
    expect(await say(id)).toMatchObject({ frame: over, isClosed: true });
    expect(await get(secret)).toMatchObject({
      body: { message: expect.stringMatching(/has expired/) },
    });
    const answer = await ask("rotate", { keyId });
    expect(answer).toMatchObject({ ok: false, error: { code: "invalid_field", field: "keyId" } });
  });

  test("is told again without harm, and brings no connection back", async () => {
    const { keyId, secret } = await issue();
    const { id } = await open(secret);
    await ask("revoke", { keyId });
    await projected();
    const ended = await deps.redis.hget(connectionKey(id), "endsAt");
    await deps.redis.del(connectionKey(id));
    const commits = (await stage.commits()).filter(({ stream }) => stream === apiKeyStream(keyId));
    time += 1_000;
    await project(deps)(tableEvent([...commits].reverse()), context);
    expect(Number(ended)).toBe(time - 1_000);
    expect(await deps.redis.exists(connectionKey(id))).toBe(0);
    const { rows } = await deps.database.query("SELECT log_version FROM api_keys WHERE id = $1", [
      keyId,
    ]);
    expect(rows).toEqual([{ log_version: 2 }]);
  });
});

test("connections of a key are forgotten when they are over", async () => {
  const { keyId, secret } = await issue();
  const first = await open(secret);
  time += 3 * 3_600_000;
  const second = await open(secret);
  expect(await deps.redis.zrangebyscore(keyConnectionsKey(keyId), "-inf", "+inf")).toEqual([
    second.id,
  ]);
  await deps.redis.del(connectionKey(first.id));
});

test("nothing of a secret is in the log lines of all of this", () => {
  expect(logger.lines.length).toBeGreaterThan(50);
  expect(secrets.length).toBeGreaterThan(10);
  for (const secret of secrets) {
    expect(logger.text).not.toContain(secret);
    expect(logger.text).not.toContain(secret.slice(22, 40));
    expect(logger.text).not.toContain(parseApiKeyText(secret)?.hash.toString("hex"));
  }
});
