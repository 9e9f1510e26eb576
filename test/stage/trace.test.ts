import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Turn } from "../../client/turn.ts";
import { traceparentOf } from "../../events/tracing/trace-context.ts";
import { eventually } from "../support/eventually.ts";
import { type CollectedSpan, kinds, traceCollector } from "../support/trace-collector.ts";
import { recorded } from "./reading.ts";
import {
  dataFolder,
  interrupt,
  removeFolder,
  type SpawnedStage,
  spawnStage,
  tenantKeys,
} from "./spawned-stage.ts";

/** A turn through real processes is one trace, also where its leader is killed, and holds nobody's words. */

let stage: SpawnedStage;
let collector: Awaited<ReturnType<typeof traceCollector>>;
beforeAll(async () => {
  collector = await traceCollector();
  stage = await spawnStage(await dataFolder(), {
    args: ["--groups", "2", "--tp", "1"],
    env: {
      AXON_MS_PER_TOKEN: "25",
      AXON_TRACE_CONTENT_TENANTS: "bob",
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    },
  });
});
afterAll(async () => {
  await interrupt(stage);
  await collector.stop();
  await removeFolder(stage.dataDir);
});

const prompt = "Tell me a story about a lighthouse.";
const root = (digit: string) => ({
  ...{ traceId: digit.repeat(32), spanId: digit.repeat(16), isSampled: true },
});

async function groupOf(turn: Turn): Promise<string> {
  const { body } = await stage.get(`/api/turns/${turn.turnId}/events`, tenantKeys.alice);
  const { events = [] } = body as { events?: { groupId?: string }[] };
  return events.find(({ groupId }) => groupId !== undefined)?.groupId ?? "";
}

/** Asks as a tenant, within the client's own span. */
async function ask(tenant: keyof typeof tenantKeys, digit: string, act?: (turn: Turn) => unknown) {
  const client = await stage.client(tenantKeys[tenant]);
  const sampling = { temperature: 0, maxTokens: 40 };
  const turn = client.chat({ prompt, sampling, traceparent: traceparentOf(root(digit)) });
  let acted = false;
  for await (const update of turn) {
    if (acted || update.type !== "text" || update.to < 4) continue;
    acted = true;
    await act?.(turn);
  }
  const { turnId = "", conversationId = "" } = turn;
  const answer = await turn.text();
  client.close();
  await recorded(stage, { turnId, conversationId }, tenantKeys[tenant]);
  return { turnId, conversationId, answer };
}

/** The trace, once nothing more of it is to come. */
function traceOf(digit: string) {
  return eventually(() => {
    const spans = collector.spans().filter(({ traceId }) => traceId === root(digit).traceId);
    const named = (name: string | RegExp) =>
      spans.filter((span) => (name instanceof RegExp ? name.test(span.name) : span.name === name));
    const reports = named("process reports.fifo").map((span) => span.attributes["axon.report"]);
    const events = named("project").flatMap((span) => span.attributes["axon.events"]);
    const isWhole =
      named("deliver").length > 0 &&
      named(/^process jobs-axon-guide/).length > 0 &&
      reports.includes("completed") &&
      events.includes("TurnCompleted");
    return isWhole && { spans, named };
  }, 20_000);
}

function only(spans: readonly CollectedSpan[]): CollectedSpan {
  expect(spans).toHaveLength(1);
  return spans[0] as CollectedSpan;
}

/** Two words in a row: names and attributes hardly have any, whatever the words are. */
function pairsOf(text: string): string[] {
  const words = text.split(/\s+/).filter((word) => /^[a-z]+$/i.test(word));
  return words.slice(1).map((word, i) => `${words[i]} ${word}`);
}

test("every hop has its span, with the right parent, and nobody's words", async () => {
  const { turnId, conversationId, answer } = await ask("alice", "a");
  const { spans, named } = await traceOf("a");

  const chat = only(named("chat"));
  expect(chat).toMatchObject({ parentSpanId: root("a").spanId, kind: kinds.server });
  expect(chat.attributes).toMatchObject({ "axon.turn.id": turnId, "axon.tenant.id": "alice" });
  const send = only(named(/^send jobs-axon-guide/));
  expect(send).toMatchObject({ parentSpanId: chat.spanId, kind: kinds.producer });
  const claim = only(named("claim turn"));
  expect(claim.parentSpanId).toBe(send.spanId);
  const process = only(named(/^process jobs-axon-guide/));
  expect(process).toMatchObject({ parentSpanId: send.spanId, kind: kinds.consumer });
  expect(process.attributes).toMatchObject({ "axon.outcome": "finished" });
  const inference = only(named(/^chat axon-guide/));
  expect(inference.parentSpanId).toBe(process.spanId);
  expect(inference.attributes).toMatchObject({
    "gen_ai.operation.name": "chat",
    "gen_ai.conversation.id": conversationId,
    "gen_ai.request.model": expect.stringMatching(/^axon-guide/),
    "gen_ai.response.model": "axon-guide",
    "gen_ai.request.max_tokens": 40,
    "gen_ai.response.finish_reasons": [expect.stringMatching(/^(stop|length)$/)],
    "gen_ai.usage.input_tokens": expect.any(Number),
    "gen_ai.usage.output_tokens": expect.any(Number),
  });
  const reports = named("process reports.fifo");
  const parentOf = Object.fromEntries(
    reports.map(({ attributes, parentSpanId }) => [attributes["axon.report"], parentSpanId]),
  );
  expect(parentOf).toEqual({ started: claim.spanId, completed: process.spanId });
  for (const projection of named("project")) expect(projection.parentSpanId).toBe(chat.spanId);
  const delivery = only(named("deliver"));
  expect(delivery).toMatchObject({ parentSpanId: chat.spanId, service: "axon-relay" });
  expect(delivery.links.map(({ spanId }) => spanId)).toEqual([claim.spanId]);
  expect(delivery.attributes["axon.tokens"]).toBe(
    inference.attributes["gen_ai.usage.output_tokens"],
  );
  expect(delivery.events.map(({ name }) => name)).toEqual(["first frame", "last frame"]);
  for (const { status } of spans) expect(status.code).toBe(0);

  const all = collector.text();
  for (const pair of [...pairsOf(prompt), ...pairsOf(answer)]) expect(all).not.toContain(pair);
});

test("a leader that is killed leaves its claim, and the next one goes on in the same trace", async () => {
  const { turnId } = await ask("alice", "b", async (turn) => {
    const groupId = await eventually(() => groupOf(turn));
    const { traceId } = root("b");
    const isClaim = (span: CollectedSpan) => span.name === "claim turn" && span.traceId === traceId;
    await eventually(() => collector.spans().some(isClaim));
    const { parts } = await stage.file();
    process.kill(parts.find((part) => part.groupId === groupId)?.pid ?? 0, "SIGKILL");
  });
  const { spans, named } = await traceOf("b");
  const send = only(named(/^send jobs-axon-guide/));
  // The queue may hand the job out once more meanwhile: that claim finds the turn held, or sealed.
  const claims = named("claim turn")
    .filter(({ attributes }) => attributes["axon.claim"] === "claimed")
    .sort((one, other) => (one.startTimeUnixNano < other.startTimeUnixNano ? -1 : 1));
  const [first, second] = claims;
  expect(claims.map(({ parentSpanId }) => parentSpanId)).toEqual([send.spanId, send.spanId]);
  expect(second?.links.map(({ spanId }) => spanId)).toEqual([first?.spanId]);
  expect(second?.attributes["axon.emitted_tokens"]).toBeGreaterThanOrEqual(4);
  // The killed leader could not end its own.
  const finished = named(/^process jobs-axon-guide/).filter(
    ({ attributes }) => attributes["axon.epoch"] !== undefined,
  );
  expect(only(finished).parentSpanId).toBe(send.spanId);
  expect(only(named("deliver")).attributes).toMatchObject({ "axon.outcome": "done" });
  const known = new Set([root("b").spanId, ...spans.map(({ spanId }) => spanId)]);
  for (const { name, parentSpanId = "" } of spans) expect(known, name).toContain(parentSpanId);
  const reports = named("process reports.fifo").map((span) => span.attributes["axon.report"]);
  expect(reports.sort()).toEqual(["completed", "started", "started"]);

  const logs = join(stage.dataDir, "logs");
  const files = await readdir(logs);
  const lines = (await Promise.all(files.map((name) => readFile(join(logs, name), "utf8")))).join();
  const left = lines.split("\n").filter((line) => line.includes('"turn left"'));
  const line = JSON.parse(left.find((one) => one.includes(turnId)) ?? "{}");
  expect(line).toMatchObject({ tenantId: "alice", traceId: root("b").traceId, turnId });
  expect(line.correlationId).toBe(only(named("chat")).attributes["axon.correlation.id"]);
  expect(lines).not.toContain("lighthouse");
});

test("a tenant that has asked for it finds its own words in its traces", async () => {
  const { answer } = await ask("bob", "c");
  const { named } = await traceOf("c");
  const details = only(named(/^chat axon-guide/)).events.find(
    ({ name }) => name === "gen_ai.client.inference.operation.details",
  );
  expect(details?.attributes["gen_ai.input.messages"]).toContain(prompt);
  expect(details?.attributes["gen_ai.output.messages"]).toContain(
    JSON.stringify(answer).slice(1, -1),
  );
});
