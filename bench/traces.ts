import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { DeliveryTrace } from "../dataplane/relay/delivery-tracer.ts";
import type { Claim } from "../dataplane/token-stream.ts";
import { type RunTrace, TurnTracer } from "../dataplane/turn-tracer.ts";
import type { Job } from "../events/jobs.ts";
import type { RedisClient } from "../events/redis-client.ts";
import { openTracing, type Tracing } from "../events/tracing/tracing.ts";

/**
 * What traces cost the processes of the data plane: processor time for a token, a frame and a turn, by
 * `process.cpuUsage`, so that others on the machine do not count. A collector on this machine takes the spans
 * and drops them; Redis is left out, as what is asked of it for a turn is one command.
 */
const help = `
npm run bench:traces            what traces cost, in processor time; takes some seconds
`;

/** Processor time of one of `times` calls, ns; the best of three rounds. */
async function nanoseconds(times: number, work: () => unknown): Promise<number> {
  const rounds: number[] = [];
  for (let round = 0; round < 3; round++) {
    const before = process.cpuUsage();
    for (let i = 0; i < times; i++) {
      const pending = work();
      if (pending instanceof Promise) await pending;
    }
    const { user, system } = process.cpuUsage(before);
    rounds.push(((user + system) * 1_000) / times);
  }
  return Math.min(...rounds);
}

const job: Job = {
  ...{ version: 1, turnId: "turn_1", tenantId: "acme", conversationId: "conv_1" },
  ...{ revision: "bench", messages: [{ role: "user", content: "" }], requestedAt: Date.now() },
  sampling: {
    ...{ maxTokens: 100, temperature: 1, topK: 0, topP: 1, minP: 0 },
    ...{ repetitionPenalty: 1, stop: [], seed: 1 },
  },
  ...{ correlationId: "bench", priority: "interactive" },
};
const traceparent = (flags: string) => `00-${"a".repeat(32)}-${"b".repeat(16)}-${flags}`;

/** A Redis that knows nothing of any trace. */
const chain = { hset: () => chain, expire: () => chain, exec: async () => [] };
const redis = { hgetall: async () => ({}), multi: () => chain } as unknown as RedisClient;

const tracerOf = (tracing: Tracing) =>
  new TurnTracer({
    ...{ tracing, redis, queueName: "jobs", provider: "axon", isRemoteEngine: false },
    ...{ model: "bench", contentTenants: new Set<string>() },
  });

const claimed: Extract<Claim, { status: "claimed" }> = {
  status: "claimed",
  ...{ cancel: undefined, barrenClaims: 1, leaseUntilMs: 0, epoch: 1 },
  ...{ leaderId: "l", groupId: "g", startedAt: Date.now(), firstTokenAt: 0, tokens: [] },
};
const usage = { promptTokens: 10, completionTokens: 100 };
const timings = { queuedMs: 1, firstTokenMs: 1, totalMs: 1 };
const end = { lastSeq: 100, epoch: 1, finishReason: "stop", usage, timings } as const;

/** All that a leader tells of a turn, but for its tokens. */
async function turn(tracer: TurnTracer | undefined, parent: string): Promise<void> {
  const trace = await tracer?.begin(job, parent);
  trace?.claimed(claimed);
  trace?.generating(10, 0);
  trace?.token();
  trace?.generated({ batches: 100, slowestMs: 1 });
  trace?.sealed(end, "");
  trace?.ended("finished");
}

const turnsSent = 100;

/** So many turns, until the collector has their spans. */
async function sentTurns(tracer: TurnTracer, tracing: Tracing): Promise<void> {
  for (let i = 0; i < turnsSent; i++) await turn(tracer, traceparent("01"));
  await tracing.flush(5_000);
}

async function main(): Promise<void> {
  const collector = createServer((request, response) => {
    request.resume().on("end", () => response.end("{}"));
  });
  await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
  const { port } = collector.address() as AddressInfo;
  const tracing = await openTracing(
    { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}` },
    { service: "bench", note: () => {} },
  );
  if (tracing === undefined) throw new Error("It does not trace.");
  const tracer = tracerOf(tracing);
  const running = await tracer.begin(job, traceparent("01"));
  running?.generating(10, 0);
  // As a leader has it that does not trace; not a constant, which would be optimized away.
  const traces: (RunTrace | undefined)[] = [undefined, running];
  const [off, on] = traces;
  const delivery = new DeliveryTrace(() => {});
  const frame = { type: "tokens", turnId: "t", from: 1, to: 1, text: "", epoch: 1 } as const;

  const rows = {
    "a token, nothing is traced": await nanoseconds(50_000_000, () => off?.token()),
    "a token of a traced turn": await nanoseconds(20_000_000, () => on?.token()),
    "a frame at the relay": await nanoseconds(5_000_000, () => delivery.delivered(frame)),
    "a turn, nothing is traced": await nanoseconds(200_000, () => turn(undefined, "")),
    "a turn that is not sampled": await nanoseconds(200_000, () => turn(tracer, traceparent("00"))),
    "a traced turn, sending its spans included": await nanoseconds(50, () =>
      sentTurns(tracer, tracing),
    ),
  };
  for (const [what, ns] of Object.entries(rows)) {
    // One number is that of several turns.
    const each = what.includes("sending") ? ns / turnsSent : ns;
    console.info(`${what.padEnd(44)} ${(each / 1_000).toFixed(4).padStart(10)} µs`);
  }
  await tracing.flush(5_000);
  collector.close();
}

if (process.argv.includes("--help")) console.info(help.trim());
else await main();
