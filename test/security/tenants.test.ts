import { createHash, randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { turnIdFor } from "../../events/ids.ts";
import { turnKey, turnWatchersKey } from "../../events/redis-keys.ts";
import { type Scope, scopeNames } from "../../events/scopes.ts";
import { authenticator } from "../../functions/lib/credentials/authenticate.ts";
import type { Deps } from "../../functions/lib/deps.ts";
import { ops } from "../../functions/ops.ts";
import { project } from "../../functions/project.ts";
import { report } from "../../functions/report.ts";
import {
  context,
  endReport,
  reportsEvent,
  type Stage,
  startedReport,
  startStage,
  tableEvent,
} from "../functions/stage.ts";
import { HeardLogger } from "../support/heard-logger.ts";
import { type Answer, frameDoors, type HttpDoor, httpDoors, type Ids, say } from "./doors.ts";

/** Every way in with the ids of another tenant, and with a credential that lacks the scope. */

let stage: Stage;
let deps: Deps;
const logger = new HeardLogger();
/** Of acme: one that runs, and one that has ended. */
let running: Ids;
let ended: Ids;
/** Of a key of acme, which is in the log as well. */
let keyId: string;
const missing: Ids = { turnId: "turn_missing", conversationId: "conv_missing" };
const prompt = "The launch is on Tuesday.";
const answer = "Bring the blue folder.";

async function ask(): Promise<Ids> {
  const { chat } = frameDoors;
  if (chat === undefined) throw new Error("There is no door to chat.");
  const frame = { action: "chat", requestId: randomUUID(), prompt };
  const { text } = await say(stage, await stage.open("acme"), chat.handler(deps), frame);
  const [accepted] = JSON.parse(text);
  return {
    turnId: turnIdFor("acme", frame.requestId),
    conversationId: accepted.conversationId,
  };
}

beforeAll(async () => {
  stage = await startStage();
  deps = { ...stage.deps, logger };
  running = await ask();
  ended = await ask();
  const asked = { command: "keys-create", tenantId: "acme", name: "of acme" };
  const { key } = (await ops(deps)(asked, context)) as { key: { keyId: string } };
  keyId = key.keyId;
  const { turnId } = ended;
  await report(deps)(reportsEvent(startedReport(turnId), endReport(turnId, answer)), context);
  await project(deps)(tableEvent(await stage.commits()), context);
});
afterAll(() => stage.close());

/** What is in the stores about acme's turns, and what waits on the queue. */
async function everything() {
  const { redis } = deps;
  const turns = [running, ended].map(async ({ turnId }) => [
    await redis.hgetall(turnKey(turnId)),
    await redis.hgetall(turnWatchersKey(turnId)),
  ]);
  return { commits: await stage.commits(), turns: await Promise.all(turns) };
}

/** Ids are those of who has asked; apart from them the answers have to be the same. */
function withoutIds({ code, text }: Answer, { turnId, conversationId }: Ids): Answer {
  const plain = text.replaceAll(turnId, "ID").replaceAll(conversationId, "ID");
  return { code, text: plain.replace(/"(requestId|turnId)":"[^"]+"/g, '"$1":"ID"') };
}

function expectNothingOfAcme({ text }: Answer): void {
  const own = [running, ended].flatMap(({ turnId, conversationId }) => [turnId, conversationId]);
  for (const word of [...own, keyId, prompt, answer, "acme"]) expect(text).not.toContain(word);
}

const askOver = (door: HttpDoor, ids: Ids, credential: string) =>
  door.call(deps, {
    ...{ method: door.method, path: door.path(ids) },
    headers: { authorization: `Bearer ${credential}` },
    ...(door.body !== undefined && { body: JSON.stringify(door.body) }),
  });

describe("what is another tenant's is answered as what does not exist, and stays untouched:", () => {
  const rival = async (action: string, ids: Ids): Promise<Answer> => {
    const door = frameDoors[action];
    if (door === undefined) throw new Error(`There is no door ${action}.`);
    return say(stage, await stage.open("rival", scopeNames), door.handler(deps), door.frame(ids));
  };
  test.each(Object.keys(frameDoors))("%s", async (action) => {
    const foreign = frameDoors[action]?.foreign;
    const before = await everything();
    const none = withoutIds(await rival(action, missing), missing);
    expect(none.code).toBe(foreign);
    for (const ids of [running, ended]) {
      const said = await rival(action, ids);
      // What names nobody's thing has figures in it, which change.
      if (foreign !== undefined) expect(withoutIds(said, ids)).toEqual(none);
      else expectNothingOfAcme(said);
    }
    expect(await everything()).toEqual(before);
  });

  test.each(httpDoors.map((door) => [`${door.method} ${door.path(missing)}`, door] as const))(
    "%s",
    async (_, door) => {
      const before = await everything();
      const none = withoutIds(await askOver(door, missing, "key-of-rival"), missing);
      expect(none.code).toBe(door.foreign ?? door.granted);
      for (const ids of [running, ended]) {
        const foreign = await askOver(door, ids, "key-of-rival");
        expect(withoutIds(foreign, ids)).toEqual(none);
        if (door.foreign === undefined) expectNothingOfAcme(foreign);
      }
      expect(await everything()).toEqual(before);
      expect((await askOver(door, ended, "key-of-acme")).code).toBe(door.granted);
    },
  );
});

test("nobody erases another tenant's conversation", async () => {
  const before = await everything();
  for (const { conversationId } of [running, ended, missing]) {
    const asked = { method: "DELETE", path: `/api/conversations/${conversationId}` };
    const headers = { authorization: "Bearer key-of-rival" };
    const door = httpDoors.find(({ of }) => of === "history");
    expect((await door?.call(deps, { ...asked, headers }))?.code).toBe("conversation_not_found");
  }
  expect(await everything()).toEqual(before);
});

describe("a credential opens what its scopes say, and nothing else:", () => {
  const keyOf = (...scopes: Scope[]) => `scopes ${scopes.join(" ")}`.replaceAll(" ", "-");
  const others = (scope: Scope) => scopeNames.filter((name) => name !== scope);

  test.each(Object.entries(frameDoors))("%s", async (_, { handler, frame, scope }) => {
    const withAll = await stage.open("acme", others(scope));
    const before = await everything();
    const { code, text } = await say(stage, withAll, handler(deps), frame(ended));
    expect(code).toBe("forbidden");
    expect(text).not.toContain(prompt);
    expect(await everything()).toEqual(before);
    const only = await stage.open("acme", [scope]);
    expect((await say(stage, only, handler(deps), frame(ended))).code).toBeUndefined();
  });

  test.each(httpDoors.map((door) => [`${door.method} ${door.path(missing)}`, door] as const))(
    "%s",
    async (_, door) => {
      const sets = [others(door.scope), [door.scope]];
      const keys = sets.map((scopes) => ({
        sha256: createHash("sha256")
          .update(keyOf(...scopes))
          .digest("hex"),
        ...{ tenantId: "acme", userId: "u", scopes },
      }));
      const authenticate = authenticator(keys, async () =>
        Promise.reject(new Error("It is none.")),
      );
      const scoped = {
        ...door,
        call: (_: Deps, request: Parameters<HttpDoor["call"]>[1]) =>
          door.call({ ...deps, authenticate }, request),
      };
      expect((await askOver(scoped, ended, keyOf(...others(door.scope)))).code).toBe("forbidden");
      expect((await askOver(scoped, ended, keyOf(door.scope))).code).toBe(door.granted);
    },
  );
});

describe("an operator of a tenant", () => {
  const said = async (name: string, fields: object) => {
    const door = frameDoors[name];
    if (door === undefined) throw new Error(`There is no door ${name}.`);
    const connectionId = await stage.open("rival", scopeNames);
    return say(stage, connectionId, door.handler(deps), { ...door.frame(missing), ...fields });
  };

  test("sees no key of another tenant in the log, however it asks", async () => {
    for (const stream of [undefined, "key/", `key/${keyId}`]) {
      for (const type of [undefined, "KeyIssued"]) {
        const seen = await said("observe log", { stream, type });
        const { text } = seen;
        expectNothingOfAcme({ ...seen, text: text.replaceAll(stream ?? " ", "") });
      }
    }
    const fold = await said("observe fold", { stream: `key/${keyId}` });
    expect(fold.code).toBe("not_found");
  });

  test("sees of its own keys no hash", async () => {
    await ops(deps)({ command: "keys-create", tenantId: "rival", name: "mine" }, context);
    const { text } = await said("observe log", { stream: undefined, type: "KeyIssued" });
    expect(text).toContain('"name":"mine"');
    expect(text).not.toMatch(/[0-9a-f]{64}/);
  });

  test("issues no keys, and asks for no other tenant", async () => {
    const before = await stage.commits();
    for (const operation of [
      { command: "keys-create", tenantId: "rival", name: "x", scopes: ["ops:write"] },
      { command: "keys-create", tenantId: "acme", name: "x" },
      { command: "keys-list" },
      { command: "keys-rotate", keyId },
      { command: "keys-revoke", keyId },
      { command: "observe", view: "turns", tenantId: "acme" },
    ]) {
      expect((await said("operate", { operation })).code).toBe("invalid_field");
    }
    expect(await stage.commits()).toEqual(before);
  });
});

test("neither prompt nor answer is in the log lines of all of this", () => {
  expect(logger.lines.length).toBeGreaterThan(30);
  for (const text of [prompt, answer, "Tuesday", "blue folder"]) {
    expect(logger.text).not.toContain(text);
  }
});
