import { randomUUID } from "node:crypto";
import type { APIGatewayProxyEventV2 } from "aws-lambda";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { turnIdFor } from "../../events/ids.ts";
import { chat } from "../../functions/chat.ts";
import { history } from "../../functions/history.ts";
import { lazyDatabase } from "../../functions/lib/database.ts";
import { project } from "../../functions/project.ts";
import { report } from "../../functions/report.ts";
import {
  context,
  endReport,
  httpEvent,
  logger,
  reportsEvent,
  type Stage,
  socketEvent,
  startedReport,
  startStage,
  tableEvent,
  timings,
} from "./stage.ts";

let stage: Stage;
/** acme's conversations, oldest first. */
const conversationIds: string[] = [];
let answered = "";
let running = "";

async function ask(tenantId: string, prompt: string, conversationId?: string) {
  const requestId = randomUUID();
  const connectionId = await stage.open(tenantId);
  const frame = { action: "chat", requestId, prompt, conversationId };
  await chat(stage.deps)(socketEvent(connectionId, frame), context);
  const reply = stage.framesTo(connectionId).at(-1);
  if (reply?.type !== "accepted") throw new Error("not accepted");
  return { turnId: turnIdFor(tenantId, requestId), conversationId: reply.conversationId };
}

beforeAll(async () => {
  stage = await startStage();
  for (let i = 1; i <= 7; i++) {
    const { turnId, conversationId } = await ask("acme", `Question ${i}`);
    conversationIds.push(conversationId);
    answered ||= turnId;
  }
  await report(stage.deps)(
    reportsEvent(startedReport(answered), endReport(answered, "An answer.")),
    context,
  );
  running = (await ask("acme", "More?", conversationIds[0])).turnId;
  await ask("rival", "Secret");
  await project(stage.deps)(tableEvent(await stage.commits()), context);
});
afterAll(() => stage.close());

async function request(event: APIGatewayProxyEventV2, deps = stage.deps) {
  const { statusCode, body = "", headers } = await history(deps)(event, context);
  expect(headers).toMatchObject({ "content-type": "application/json; charset=utf-8" });
  return { status: statusCode, body: JSON.parse(body) };
}
const get = (path: string, options?: Parameters<typeof httpEvent>[1]) =>
  request(httpEvent(path, options));

describe("GET /api/conversations", () => {
  test("lists a tenant's own, the one with the newest turn first", async () => {
    const { status, body } = await get("/api/conversations");
    expect(status).toBe(200);
    const [first, ...rest] = conversationIds;
    const ids = body.conversations.map(({ id }: { id: string }) => id);
    expect(ids).toEqual([first, ...rest.toReversed()]);
    expect(body.conversations[0]).toEqual({
      id: first,
      title: "Question 1",
      turns: 2,
      createdAt: expect.any(Number),
      updatedAt: expect.any(Number),
    });
    expect(body.next).toBeNull();
  });

  test("comes in pages that join without gap or repeat", async () => {
    const { body: all } = await get("/api/conversations");
    const joined: unknown[] = [];
    let query: Record<string, string> = { limit: "3" };
    const sizes: number[] = [];
    for (;;) {
      const { body } = await get("/api/conversations", { query });
      joined.push(...body.conversations);
      sizes.push(body.conversations.length);
      if (body.next === null) break;
      query = { limit: "3", before: body.next };
    }
    expect(sizes).toEqual([3, 3, 1]);
    expect(joined).toEqual(all.conversations);
  });

  test("has no next page when the last one is just full", async () => {
    const { body } = await get("/api/conversations", { query: { limit: "7" } });
    expect(body.conversations).toHaveLength(7);
    expect(body.next).toBeNull();
  });

  test.each([
    ["limit", "0"],
    ["limit", "201"],
    ["limit", "many"],
    ["before", "?"],
    ["before", Buffer.from("[]").toString("base64url")],
    ["before", Buffer.from("no JSON").toString("base64url")],
  ])("refuses %s=%s", async (field, value) => {
    const { status, body } = await get("/api/conversations", { query: { [field]: value } });
    expect(status).toBe(400);
    expect(body).toMatchObject({ type: "error", code: "invalid_field", field, retryable: false });
  });
});

describe("GET /api/conversations/{id}", () => {
  test("shows the turns in order, what is known of each", async () => {
    const { status, body } = await get(`/api/conversations/${conversationIds[0]}`);
    expect(status).toBe(200);
    expect(body).toMatchObject({ id: conversationIds[0], title: "Question 1" });
    expect(body.turns).toEqual([
      {
        id: answered,
        ordinal: 1,
        model: "guide",
        revision: "guide-1",
        status: "completed",
        prompt: "Question 1",
        answer: "An answer.",
        finishReason: "stop",
        usage: { promptTokens: 5, completionTokens: 2 },
        timings,
        requestedAt: expect.any(Number),
        endedAt: expect.any(Number),
        error: null,
      },
      expect.objectContaining({
        id: running,
        ordinal: 2,
        status: "requested",
        prompt: "More?",
        answer: null,
        finishReason: null,
        usage: null,
        timings: null,
        endedAt: null,
      }),
    ]);
  });

  test("finds none of another tenant, nor one that is not there", async () => {
    const expected = { type: "error", code: "conversation_not_found" };
    const theirs = await get(`/api/conversations/${conversationIds[0]}`, { tenantId: "rival" });
    expect(theirs).toMatchObject({ status: 404, body: expected });
    expect(await get("/api/conversations/conv_none")).toMatchObject({
      status: 404,
      body: expected,
    });
    const { body } = await get("/api/conversations", { tenantId: "rival" });
    expect(body.conversations).toMatchObject([{ title: "Secret" }]);
  });
});

describe("GET /api/turns/{id}/events", () => {
  test("reads the turn's log", async () => {
    const { status, body } = await get(`/api/turns/${answered}/events`);
    expect(status).toBe(200);
    expect(body).toMatchObject({
      turnId: answered,
      events: [{ type: "TurnRequested" }, { type: "TurnStarted" }, { type: "TurnCompleted" }],
    });
  });

  test("finds none of another tenant, nor one that is not there", async () => {
    const expected = { type: "error", code: "turn_not_found" };
    const theirs = await get(`/api/turns/${answered}/events`, { tenantId: "rival" });
    expect(theirs).toMatchObject({ status: 404, body: expected });
    expect(await get("/api/turns/turn_none/events")).toMatchObject({ status: 404, body: expected });
  });
});

test("GET /api/models names the models, and not where their jobs go", async () => {
  expect(await get("/api/models")).toEqual({
    status: 200,
    body: {
      models: [
        { model: "guide", revision: "guide-1", default: true },
        { model: "other", revision: "other-1", default: false },
      ],
    },
  });
});

describe("what is refused", () => {
  test.each([
    ["no credential", {}],
    ["another scheme", { authorization: "Basic a2V5" }],
    ["a wrong key", { authorization: "Bearer key-of-nobody" }],
    ["an empty one", { authorization: "Bearer " }],
  ])("a request with %s", async (_, headers) => {
    for (const path of ["/api/conversations", "/api/models", `/api/turns/${answered}/events`]) {
      const { status, body } = await get(path, { headers });
      expect(status).toBe(401);
      expect(body).toMatchObject({ type: "error", code: "unauthenticated", retryable: false });
    }
  });

  test.each([
    ["/api/nothing", "GET"],
    ["/api/conversations/", "GET"],
    ["/api/conversations/a/b", "GET"],
    ["/api/conversations/..%2F", "GET"],
    ["/api/conversations", "DELETE"],
  ])("%s by %s", async (path, method) => {
    const { status, body } = await get(path, { method });
    expect(status).toBe(404);
    expect(body.code).toBe("not_found");
  });

  test("everything that needs PostgreSQL while it is away, as something to try again", async () => {
    const database = lazyDatabase("postgres://nobody@127.0.0.1:9/none", logger);
    const deps = { ...stage.deps, database };
    const { status, body } = await request(httpEvent("/api/conversations"), deps);
    expect(status).toBe(503);
    expect(body).toMatchObject({ type: "error", code: "unavailable", retryable: true });
    expect((await request(httpEvent(`/api/turns/${answered}/events`), deps)).status).toBe(200);
    await database.end();
  });
});
