import { afterAll, beforeAll, expect, test } from "vitest";
import { type DataAnswer, data } from "../../functions/data.ts";
import { history } from "../../functions/history.ts";
import { project } from "../../functions/project.ts";
import { writeHistory } from "../support/made-history.ts";
import { context, httpEvent, type Stage, startStage, tableEvent } from "./stage.ts";

let stage: Stage;
let conversationIds: string[];
beforeAll(async () => {
  stage = await startStage();
  // Conversations of four turns, whose tenants take turns: tenant-0, tenant-1, …
  ({ conversationIds } = await writeHistory(stage.deps.log, { turns: 12 }));
  await project(stage.deps)(tableEvent(await stage.commits()), context);
});
afterAll(() => stage.close());

type Page = Extract<DataAnswer, { lines: unknown }>;
async function page(question: object): Promise<Page> {
  const answer = await data(stage.deps)({ command: "export", ...question }, context);
  if (!answer.ok || !("lines" in answer)) throw new Error(JSON.stringify(answer));
  return answer;
}

test("a conversation is exported with its turns in order, and each turn with its events", async () => {
  const [conversationId = ""] = conversationIds;
  const { lines, next } = await page({ conversationId });
  expect(next).toBeNull();
  expect(lines[0]).toMatchObject({ type: "conversation", id: conversationId, turns: 4 });
  const turns = lines.filter((line) => line.type === "turn");
  expect(turns.map(({ ordinal }) => ordinal)).toEqual([1, 2, 3, 4]);
  expect(turns[0]).toMatchObject({
    ...{
      conversationId,
      prompt: "What is 1? What is 1? ",
      answer: expect.stringContaining("It is 1"),
    },
    ...{ usage: { promptTokens: 12, completionTokens: 34 }, requestedAt: expect.any(Number) },
  });
  const withEvents = (await page({ conversationId, events: true })).lines;
  const events = withEvents.filter((line) => line.type === "event");
  expect(events[0]).toMatchObject({
    ...{ stream: `conversation/${conversationId}`, version: 1 },
    event: { type: "ConversationStarted", title: "Conversation 0" },
  });
  expect(JSON.stringify(events)).toContain("What is 1?");
  expect(JSON.stringify(events)).not.toContain("sealed");
});

test("pages of a tenant join without gap or repeat, wherever they end", async () => {
  // Answers of 400 kB: a page has few of them.
  const text = "long ".repeat(80_000);
  await stage.deps.database.query("UPDATE messages SET content = $1 WHERE role = 'assistant'", [
    text,
  ]);
  const lines: Page["lines"] = [];
  let after: string | undefined;
  let pages = 0;
  do {
    const { lines: more, next } = await page({ tenantId: "tenant-1", after });
    lines.push(...more);
    after = next ?? undefined;
    pages++;
  } while (after !== undefined);
  expect(pages).toBeGreaterThan(1);
  const ids = lines.map((line) => (line.type === "event" ? "" : line.id));
  expect(new Set(ids).size).toBe(ids.length);
  expect(lines.map(({ type }) => type)).toEqual(["conversation", "turn", "turn", "turn", "turn"]);
  expect(ids[0]).toBe(conversationIds[1]);
});

test("a tenant exports its own over HTTP, and nobody else's", async () => {
  const get = async (query: Record<string, string>) => {
    const event = httpEvent("/api/export", { query });
    const { statusCode, body = "" } = await history(stage.deps)(event, context);
    return { status: statusCode, body: JSON.parse(body) };
  };
  const [conversation = ""] = conversationIds;
  expect(await get({})).toEqual({ status: 200, body: { lines: [], next: null } });
  expect(await get({ conversation })).toEqual({ status: 200, body: { lines: [], next: null } });
  await stage.deps.database.query("UPDATE conversations SET tenant_id = 'acme' WHERE id = $1", [
    conversation,
  ]);
  expect((await get({ conversation, events: "true" })).body.lines.length).toBeGreaterThan(10);
  expect(await get({ after: "nowhere" })).toMatchObject({
    status: 400,
    body: { code: "invalid_field", field: "after" },
  });
  expect(await get({ page: "2" })).toMatchObject({ status: 400 });
});
