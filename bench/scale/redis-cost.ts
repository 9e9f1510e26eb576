import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { tokenStream } from "../../dataplane/token-stream.ts";
import type { Job } from "../../events/jobs.ts";
import { turnChannel } from "../../events/redis-keys.ts";
import { startRedis } from "../../local/redis.ts";

/** What turns cost Redis, measured: the real scripts, one listener to each turn, no disk. */
export interface RedisCost {
  /** Appends of one token that one core of Redis takes in a second. */
  appendsPerCpuSecond: number;
  /** Of a turn that has ended, while its keys live. */
  bytesPerTurn: number;
}

const turns = 1_000;
const answerTokens = 300;
/** Tokens of a step of one group, in one pipeline. */
const turnsOfStep = 32;
const leaseMs = 600_000;

export async function measureRedis(): Promise<RedisCost> {
  const folder = await mkdtemp(join(tmpdir(), "axon-bench-"));
  const server = await startRedis({
    ...{ dataDir: join(folder, "redis"), logFile: join(folder, "redis.log"), persistent: false },
  });
  const redis = new Redis(server.url);
  const listener = new Redis(server.url);
  try {
    return await measure(redis, listener);
  } finally {
    redis.disconnect();
    listener.disconnect();
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

async function measure(redis: Redis, listener: Redis): Promise<RedisCost> {
  const stream = tokenStream(redis);
  const jobs = Array.from({ length: turns }, (_, i) => jobOf(`turn_${i}`));
  const bytesBefore = await infoOf(redis, "memory", "used_memory");
  let cpuSeconds = 0;
  for (let start = 0; start < turns; start += turnsOfStep) {
    const step = jobs.slice(start, start + turnsOfStep);
    await listener.subscribe(...step.map(({ turnId }) => turnChannel(turnId)));
    const epochs = new Map<string, number>();
    for (const job of step) {
      const claim = await stream.claim(job, { leaderId: "leader", groupId: "group", leaseMs });
      if (claim.status !== "claimed") throw new Error("Nobody else is here.");
      epochs.set(job.turnId, claim.epoch);
    }
    const epochOf = ({ turnId }: Job) => epochs.get(turnId) ?? 0;
    const cpuBefore = await cpuOf(redis);
    for (let from = 1; from <= answerTokens; from++) {
      const tokens = [{ text: " token", token: 10_000 + from }];
      await stream.appendAll(
        step.map((job) => ({ turnId: job.turnId, epoch: epochOf(job), from, tokens })),
      );
    }
    cpuSeconds += (await cpuOf(redis)) - cpuBefore;
    for (const job of step) await stream.seal(job, epochOf(job), endOf());
    await listener.unsubscribe();
  }
  const bytes = (await infoOf(redis, "memory", "used_memory")) - bytesBefore;
  return { appendsPerCpuSecond: (turns * answerTokens) / cpuSeconds, bytesPerTurn: bytes / turns };
}

const jobOf = (turnId: string): Job => ({
  ...{ version: 1, turnId, tenantId: "tenant", conversationId: "conversation", revision: "bench" },
  // Some 1,000 tokens of prompt.
  messages: [{ role: "user", content: "word ".repeat(1_000) }],
  sampling: {
    ...{ maxTokens: answerTokens, temperature: 0, topK: 0, topP: 1, minP: 0 },
    ...{ repetitionPenalty: 1, stop: [], seed: 1 },
  },
  ...{ requestedAt: 0, priority: "interactive", correlationId: turnId },
});

const endOf = () => ({
  ...{ lastSeq: answerTokens, epoch: 1, finishReason: "length" as const },
  usage: { promptTokens: 1_000, completionTokens: answerTokens },
  timings: { queuedMs: 0, firstTokenMs: 1, totalMs: 1 },
});

async function infoOf(redis: Redis, section: string, field: string): Promise<number> {
  const text = await redis.info(section);
  return Number(new RegExp(`^${field}:([\\d.]+)`, "m").exec(text)?.[1]);
}

async function cpuOf(redis: Redis): Promise<number> {
  const [user, system] = [
    await infoOf(redis, "cpu", "used_cpu_user"),
    await infoOf(redis, "cpu", "used_cpu_sys"),
  ];
  return user + system;
}
