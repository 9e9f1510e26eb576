import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { Redis } from "ioredis";
import { expect, onTestFinished, test } from "vitest";
import type { ServerFrame } from "../../events/frames.ts";
import { type Job, messageBody } from "../../events/jobs.ts";
import { leaderMetrics, relayMetrics } from "../../events/metrics.ts";
import { turnKey } from "../../events/redis-keys.ts";
import { watchTurn } from "../../functions/lib/turns/watchers.ts";
import { type Running, startProgram } from "../group/group-processes.ts";
import { eventually } from "../support/eventually.ts";
import { awsClientConfig, freshQueue, freshRedis, parts } from "../support/parts.ts";
import { type Family, parseExposition, sampleValue } from "./exposition.ts";

/** A real leader with the bundled model, and a real relay, read as Prometheus reads them. */

const root = join(import.meta.dirname, "..", "..");
const tenant = "tenant-whom-nobody-may-see";
const prompt = "What is tensor parallelism? Say it for my secret-project.";

async function scrape(url: string): Promise<Map<string, Family>> {
  const response = await fetch(`${url}/metrics`);
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  return parseExposition(await response.text());
}

const probesOf = ({ output }: Running) =>
  eventually(() => /"probes":"(http[^"]+)"/.exec(output())?.[1], 20_000);

/** API Gateway's callbacks. The first call is throttled; a connection called `gone` has gone. */
async function callbackGateway() {
  const frames: ServerFrame[] = [];
  let calls = 0;
  const server = createServer(async (request, response) => {
    const chunks = await request.toArray();
    const isGone = request.url?.includes("gone");
    calls++;
    if (isGone) response.writeHead(410, { "x-amzn-errortype": "GoneException" }).end();
    else if (calls === 1) response.writeHead(429).end();
    else {
      frames.push(JSON.parse(Buffer.concat(chunks).toString()));
      response.end();
    }
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  onTestFinished(() => server.closeAllConnections());
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, frames };
}

const jobOf = (turnId: string, maxTokens: number): Job => ({
  ...{ version: 1, turnId, tenantId: tenant, conversationId: randomUUID(), revision: "r1" },
  messages: [{ role: "user", content: prompt }],
  sampling: {
    ...{ maxTokens, temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 },
    ...{ stop: [], seed: 1 },
  },
  requestedAt: Date.now(),
  ...{ correlationId: randomUUID(), priority: "interactive" },
});

async function startBoth(redisUrl: string, gatewayUrl: string) {
  const [jobs, reports] = await Promise.all([freshQueue(), freshQueue({ fifo: true })]);
  const env = {
    REDIS_URL: redisUrl,
    AXON_PROBES: "127.0.0.1:0",
    AWS_REGION: "us-east-1",
    ...{ AWS_ACCESS_KEY_ID: "test", AWS_SECRET_ACCESS_KEY: "test" },
  };
  const worker = startProgram(["dataplane/worker.ts"], {
    ...env,
    ...{
      AWS_ENDPOINT_URL_SQS: parts().sqsEndpoint,
      AXON_MODEL_DIR: join(root, "models/axon-guide"),
    },
    ...{ AXON_REVISION: "r1", AXON_GROUP_ID: "r1-0", AXON_TP: "1", AXON_DRAIN_MS: "0" },
    AXON_JOBS_QUEUE_URL: jobs.url,
    AXON_JOBS_DEAD_QUEUE_URL: jobs.deadLetterUrl,
    AXON_REPORTS_QUEUE_URL: reports.url,
  });
  const relay = startProgram(["dataplane/relay.ts"], {
    ...env,
    AXON_CONNECTIONS_ENDPOINT: gatewayUrl,
  });
  const [leader, relayUrl] = await Promise.all([probesOf(worker), probesOf(relay)]);
  return { jobsUrl: jobs.url, leader, relay: relayUrl };
}

test("what leader and relay count is what was said and delivered, and names nobody", async () => {
  const redisUrl = await freshRedis();
  const redis = new Redis(redisUrl);
  const sqs = new SQSClient(awsClientConfig("sqs"));
  onTestFinished(() => {
    redis.disconnect();
    sqs.destroy();
  });
  const gateway = await callbackGateway();
  const { jobsUrl: QueueUrl, leader, relay } = await startBoth(redisUrl, gateway.url);
  // One answer ends by its limit, one as the model wants, and one is cancelled before it begins.
  const turns = [jobOf(randomUUID(), 5), jobOf(randomUUID(), 400), jobOf(randomUUID(), 5)];
  const [, , cancelled] = turns;
  await redis.hset(turnKey(cancelled?.turnId ?? ""), "cancel", "user");
  for (const { turnId } of turns) await watchTurn(redis, turnId, "c1", { sent: 0, epoch: 0 });
  await watchTurn(redis, turns[0]?.turnId ?? "", "gone", { sent: 0, epoch: 0 });
  for (const job of turns) {
    await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: messageBody(job) }));
  }
  await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: "no job" }));
  const done = () => gateway.frames.flatMap((frame) => (frame.type === "done" ? [frame] : []));
  await eventually(() => done().length === 3, 20_000);
  const said = await eventually(async () => {
    const families = await scrape(leader);
    return sampleValue(families, "axon_reports_total") === 6 && families;
  });

  const tokens = done().reduce((sum, { usage }) => sum + usage.completionTokens, 0);
  expect(tokens).toBeGreaterThan(20);
  expect(sampleValue(said, "axon_generation_tokens_total")).toBe(tokens);
  expect(sampleValue(said, "gen_ai_client_token_usage_sum", { gen_ai_token_type: "output" })).toBe(
    tokens,
  );
  const promptTokens = done().reduce((sum, { usage }) => sum + usage.promptTokens, 0);
  expect(sampleValue(said, "axon_prompt_tokens_total")).toBe(promptTokens);
  for (const reason of ["stop", "length", "cancelled"]) {
    expect(
      sampleValue(said, "axon_turns_finished_total", { finished_reason: reason }),
      reason,
    ).toBe(1);
  }
  expect(sampleValue(said, "axon_turns_finished_total", { finished_reason: "failed" })).toBe(0);
  const answered = done().filter(({ usage }) => usage.completionTokens > 0).length;
  expect(sampleValue(said, "gen_ai_server_time_to_first_token_seconds_count")).toBe(answered);
  // One less than tokens in each answer; those that the tokenizer gives out together, too.
  expect(sampleValue(said, "axon_inter_token_latency_seconds_count")).toBe(tokens - answered);
  expect(sampleValue(said, "axon_claims_total", { result: "claimed" })).toBe(3);
  expect(sampleValue(said, "axon_jobs_received_total")).toBe(3);
  expect(sampleValue(said, "axon_jobs_malformed_total")).toBe(1);
  expect(sampleValue(said, "axon_turns_running")).toBe(0);
  expect(sampleValue(said, "axon_engine_slots")).toBe(16);
  const steps = sampleValue(said, "axon_engine_steps_total");
  expect(steps).toBeGreaterThan(tokens / 3);
  expect(sampleValue(said, "axon_engine_step_seconds_total")).toBeGreaterThan(steps * 1e-5);

  const delivered = await scrape(relay);
  expect(sampleValue(delivered, "axon_relay_tokens_total")).toBe(tokens);
  expect(sampleValue(delivered, "axon_relay_frames_total", { type: "done" })).toBe(3);
  expect(sampleValue(delivered, "axon_relay_frames_total")).toBe(gateway.frames.length);
  const posts = (result: string) =>
    sampleValue(delivered, "axon_relay_posts_total", { door: "gateway", result });
  expect(posts("sent")).toBe(gateway.frames.length);
  expect(posts("gone")).toBe(1);
  expect(posts("throttled")).toBeLessThanOrEqual(1);
  expect(sampleValue(delivered, "axon_relay_shards")).toBe(8);
  expect(sampleValue(delivered, "axon_relay_watched_turns")).toBe(0);
  expect(sampleValue(delivered, "axon_relay_delivery_latency_seconds_count")).toBeGreaterThan(0);

  for (const [families, catalog] of [
    [said, leaderMetrics],
    [delivered, relayMetrics],
  ] as const) {
    expect([...families.keys()].sort()).toEqual(Object.keys(catalog).sort());
    const text = JSON.stringify([...families.values()]);
    for (const secret of [tenant, "secret-project", "c1", ...turns.map(({ turnId }) => turnId)]) {
      expect(text.includes(`"${secret}"`) || text.includes(secret), secret).toBe(false);
    }
    for (const { name, labels } of [...families.values()].flatMap(({ samples }) => samples)) {
      for (const [label, value] of Object.entries(labels)) {
        expect(valuesOf(catalog, name, label), `${name} ${label}`).toContain(value);
      }
    }
  }
}, 60_000);

/** The values that the catalog, or the deployment, has for a label. */
function valuesOf(catalog: object, sample: string, label: string): readonly string[] {
  const ofDeployment: Record<string, string> = {
    model: "axon-guide",
    revision: "r1",
    group: "r1-0",
  };
  const entries = Object.entries(catalog) as [
    string,
    { labels: Record<string, string[]>; buckets?: number[] },
  ][];
  const found = entries.find(
    ([name]) => sample.replace(/_(bucket|sum|count)$/, "") === name || sample === name,
  );
  if (label === "le") return [...(found?.[1].buckets ?? []).map(String), "+Inf"];
  return found?.[1].labels[label] ?? [ofDeployment[label] ?? ""];
}
