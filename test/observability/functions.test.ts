import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { errorCodes } from "../../events/errors.ts";
import { functionMetrics } from "../../events/function-metrics.ts";
import { turnIdFor } from "../../events/ids.ts";
import type { Report } from "../../events/jobs.ts";
import { objectives } from "../../events/objectives.ts";
import { chat } from "../../functions/chat.ts";
import { invocationMeter } from "../../functions/lib/emf.ts";
import { ConfigurationError, provide } from "../../functions/lib/provider.ts";
import { project } from "../../functions/project.ts";
import { report } from "../../functions/report.ts";
import {
  context,
  endReport,
  reportsEvent,
  type Stage,
  socketEvent,
  startedReport,
  startStage,
  tableEvent,
} from "../functions/stage.ts";
import { type Measured, readEmf } from "./emf.ts";

/** What the functions tell CloudWatch, on real stores. */

const prompt = "a prompt with a secret-project in it";
const answer = "an answer with a secret-plan in it";
let stage: Stage;
let lines: string[];
beforeAll(async () => {
  stage = await startStage();
});
afterAll(() => stage.close());
beforeEach(() => {
  lines = [];
});

const deps = () => ({
  ...stage.deps,
  metrics: { namespace: "Axon/test", write: (line: string) => void lines.push(line) },
});
const as = (functionName: string) => ({ ...context, functionName });
const measured = (): Measured[] => lines.flatMap(readEmf);
const valuesOf = (name: string) =>
  measured().flatMap((one) => (one.name === name ? one.values : []));

/** Asks for a turn. @returns its id. */
async function ask(): Promise<string> {
  const requestId = randomUUID();
  const connectionId = await stage.open("acme");
  const event = socketEvent(connectionId, { action: "chat", requestId, prompt });
  event.requestContext.requestTimeEpoch = Date.now() - 40;
  await chat(deps())(event, as("axon-test-chat"));
  return turnIdFor("acme", requestId);
}

describe("the functions", () => {
  test("tell what an accepted turn took", async () => {
    await ask();
    expect(lines).toHaveLength(1);
    const dimensions = { FunctionName: "axon-test-chat" };
    for (const one of measured()) expect(one).toMatchObject({ namespace: "Axon/test", dimensions });
    expect(valuesOf("AcceptedTurns")).toEqual([1]);
    expect(valuesOf("TimeToAccepted")).toEqual([expect.toSatisfy((ms: number) => ms >= 40)]);
    expect(valuesOf("Duration")).toEqual([expect.any(Number)]);
  });

  test("tell refusals by their code, which is one of those that there are", async () => {
    const event = socketEvent(await stage.open("acme"), {
      action: "chat",
      requestId: "r",
      prompt: 1,
    });
    await chat(deps())(event, as("axon-test-chat"));
    const refusals = measured().filter(({ name }) => name === "Refusals");
    expect(refusals).toMatchObject([{ dimensions: { Code: "invalid_field" }, values: [1] }]);
    expect(Object.keys(errorCodes)).toContain("invalid_field");
  });

  test("tell how turns went, once each, and against what was promised", async () => {
    const [quick, late, failed] = [await ask(), await ask(), await ask()];
    lines = [];
    const timings = { queuedMs: 100, firstTokenMs: 50, totalMs: 90 };
    const slow = {
      queuedMs: objectives.firstToken.withinSeconds * 1_000,
      ...{ firstTokenMs: 1, totalMs: 1_001 },
    };
    const batch = [
      startedReport(quick),
      { ...endReport(quick, answer), timings, usage: { promptTokens: 9, completionTokens: 5 } },
      {
        ...endReport(late, answer),
        timings: slow,
        usage: { promptTokens: 9, completionTokens: 3 },
      },
      endReport(failed, answer, "failed"),
    ] as Report[];
    const handle = report(deps());
    await handle(reportsEvent(...batch), as("axon-test-report"));
    expect(valuesOf("TurnFailed").sort()).toEqual([0, 0, 1]);
    expect(valuesOf("TimeToFirstToken").sort()).toEqual([150, slow.queuedMs + 1]);
    expect(valuesOf("FirstTokenLate").sort()).toEqual([0, 1]);
    expect(valuesOf("InterTokenLatency").sort()).toEqual([10, 500]);
    expect(valuesOf("InterTokenLate").sort()).toEqual([0, 1]);
    expect(valuesOf("BatchSize")).toEqual([4]);
    expect(valuesOf("ReportLag")).toHaveLength(4);
    const byRevision = measured().filter(({ dimensions }) => "Revision" in dimensions);
    expect(new Set(byRevision.map(({ dimensions }) => dimensions["Revision"]))).toEqual(
      new Set(["guide-1"]),
    );
    lines = [];
    await handle(reportsEvent(...batch), as("axon-test-report"));
    expect(valuesOf("TurnFailed")).toEqual([]);
    await project(deps())(tableEvent(await stage.commits()), as("axon-test-project"));
    expect(valuesOf("ProjectionLag").length).toBeGreaterThan(3);
  });

  test("say nothing of whom and what", async () => {
    const turnId = await ask();
    await report(deps())(reportsEvent(endReport(turnId, answer)), as("axon-test-report"));
    expect(lines.length).toBeGreaterThan(1);
    for (const line of lines) {
      expect(line).not.toMatch(/secret|acme|connection-/);
      expect(line).not.toContain(turnId);
    }
  });

  test("say nothing at all where nobody asks for it", async () => {
    await chat(stage.deps)(
      socketEvent(await stage.open("acme"), { action: "chat", requestId: randomUUID(), prompt }),
      context,
    );
    expect(lines).toEqual([]);
    expect(provide([], {}).metrics).toBeUndefined();
    expect(provide([], { AXON_METRICS_NAMESPACE: "Axon/prod" }).metrics?.namespace).toBe(
      "Axon/prod",
    );
    expect(() => provide([], { AXON_METRICS_NAMESPACE: "AWS/Lambda" })).toThrow(ConfigurationError);
  });
});

test("a metric with more values than a document may have takes several", () => {
  const meter = invocationMeter({ namespace: "n", write: (line) => void lines.push(line) }, "f");
  for (let i = 0; i < 250; i++) meter.measure("ReportLag", i);
  meter.measure("Duration", 7);
  meter.flush();
  expect(lines).toHaveLength(3);
  expect(valuesOf("ReportLag")).toEqual(Array.from({ length: 250 }, (_, i) => i));
  expect(valuesOf("Duration")).toEqual([7]);
  meter.flush();
  expect(lines).toHaveLength(3);
});

test("there is no dimension whose values nobody counts", () => {
  const dimensions = new Set(Object.values(functionMetrics).map(({ by }) => by));
  expect([...dimensions].sort()).toEqual(["Code", "FunctionName", "Revision"]);
});
