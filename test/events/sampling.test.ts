import { describe, expect, test } from "vitest";
import { upcast } from "../../events/event-catalog.ts";
import { chatFrameSchema } from "../../events/frames.ts";
import { jobSchema } from "../../events/jobs.ts";
import { limits } from "../../events/limits.ts";
import {
  requestedSamplingSchema,
  type Sampling,
  samplingSchema,
  sparseSampling,
} from "../../events/sampling.ts";

/** A sampling as it was written before minP, repetitionPenalty and stop existed. */
const old = { maxTokens: 64, temperature: 0.7, topK: 40, topP: 0.9, seed: 7 };
const neutral = { minP: 0, repetitionPenalty: 1, stop: [] };
const newer = { minP: 0.1, repetitionPenalty: 1.2, stop: ["\n\n", "🚀"] };

describe("what was written before the newer values existed", () => {
  const event = {
    ...{ type: "TurnRequested", version: 1, at: 5, turnId: "t1", conversationId: "c1" },
    ...{ tenantId: "acme", model: "guide", revision: "guide-1", prompt: "Hello", sampling: old },
    ...{ priority: "interactive", correlationId: "x1" },
  };
  const job = {
    ...{ version: 1, turnId: "t1", tenantId: "acme", conversationId: "c1", revision: "guide-1" },
    ...{ messages: [{ role: "user", content: "Hello" }], sampling: old },
    ...{ requestedAt: 5, correlationId: "x1" },
  };

  test("an event of the log reads with neutral values", () => {
    expect(upcast(event)).toEqual({ ...event, sampling: { ...old, ...neutral } });
  });

  test("a job that was on its way during a rollout reads with neutral values", () => {
    expect(jobSchema.parse(job)).toEqual({
      ...job,
      priority: "interactive",
      sampling: { ...old, ...neutral },
    });
  });

  test("no two readings share a list", () => {
    samplingSchema.parse(old).stop.push("x");
    expect(samplingSchema.parse(old).stop).toEqual([]);
  });
});

describe("a sparse sampling", () => {
  test("of neutral values is one that the version before understands", () => {
    expect(sparseSampling({ ...old, ...neutral })).toEqual(old);
  });

  test.each<Partial<Sampling>>([
    {},
    { minP: 0.1 },
    { repetitionPenalty: 0.5 },
    { stop: ["x"] },
    newer,
  ])("with %j reads as what it was made of", (some) => {
    const sampling = { ...old, ...neutral, ...some };
    const sent: unknown = JSON.parse(JSON.stringify(sparseSampling(sampling)));
    expect(samplingSchema.parse(sent)).toEqual(sampling);
    expect(Object.keys(sent as object).sort()).toEqual(Object.keys({ ...old, ...some }).sort());
  });
});

describe("what a client asks for", () => {
  test("stays open where it names nothing", () => {
    const frame = { action: "chat", requestId: "r1", prompt: "Hi", sampling: { minP: 0.2 } };
    expect(chatFrameSchema.parse(frame).sampling).toEqual({ minP: 0.2 });
  });

  const { stopCharacters, stopStrings, repetitionPenalty } = limits;
  test.each<[string, Record<string, unknown>]>([
    ["both ends of minP", { minP: 0 }],
    ["both ends of minP", { minP: 1 }],
    ["both ends of repetitionPenalty", { repetitionPenalty: repetitionPenalty.least }],
    ["both ends of repetitionPenalty", { repetitionPenalty: repetitionPenalty.most }],
    ["no stop strings", { stop: [] }],
    ["as many stop strings as may be", { stop: Array(stopStrings).fill("x") }],
    ["the longest one, counted in characters", { stop: ["🚀".repeat(stopCharacters)] }],
  ])("may be %s", (_, sampling) => {
    expect(requestedSamplingSchema.parse(sampling)).toEqual(sampling);
  });

  test.each<[Record<string, unknown>, string, RegExp]>([
    [{ minP: -0.01 }, "minP", />=0/],
    [{ minP: 1.01 }, "minP", /<=1/],
    [{ minP: "0.1" }, "minP", /number/],
    [{ minP: null }, "minP", /number/],
    [{ repetitionPenalty: 0 }, "repetitionPenalty", />=0\.1/],
    [{ repetitionPenalty: 11 }, "repetitionPenalty", /<=10/],
    [{ stop: "x" }, "stop", /array/],
    [{ stop: Array(stopStrings + 1).fill("x") }, "stop", /<=4/],
    [{ stop: ["x", ""] }, "stop.1", />=1/],
    [{ stop: ["x".repeat(stopCharacters + 1)] }, "stop.0", /at most 64 characters/],
    [{ stop: [5] }, "stop.0", /string/],
    [{ stop: ["\ud83d"] }, "stop.0", /well-formed/],
    [{ stop: ["a\u0000"] }, "stop.0", /U\+0000/],
  ])("is refused as %j, naming field and limit", (sampling, field, limit) => {
    const { error } = requestedSamplingSchema.safeParse(sampling);
    expect(error?.issues[0]?.path.join(".")).toBe(field);
    expect(error?.issues[0]?.message).toMatch(limit);
  });
});
