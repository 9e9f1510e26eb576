import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import type { Job } from "../../events/jobs.ts";
import { quantile } from "../statistics.ts";
import { type Part, startPart } from "./part-process.ts";
import type { Seen } from "./readers.ts";

export type Path = "door" | "callbacks" | "socket.io";

export interface Load {
  /** Turns that run at the same time, each read by one connection. */
  turns: number;
  tokensPerSecond: number;
  /** Connections that are open, the readers among them. */
  connections: number;
  /** How long is measured, after a warm-up. */
  seconds: number;
}

interface Spread {
  p50: number;
  p99: number;
}

export interface Result {
  firstMs: Spread;
  tokenMs: Spread;
  deliveredPerSecond: number;
  /** Of the tokens that the engine was to say in that time. */
  deliveredShare: number;
  framesPerThousand: number;
  tokensPerDoorCpuSecond: number;
  tokensPerLeaderCpuSecond: number;
  gaps: number;
}

export interface Surroundings {
  redisUrl: string;
  folder: string;
  /** Where the peer is installed. */
  peerDir: string | undefined;
}

const warmUpSeconds = 3;
const slices = 50;

export function jobsOf(count: number, maxTokens: number): Job[] {
  return Array.from({ length: count }, () => {
    const turnId = `turn_${randomUUID()}`;
    return {
      ...{ version: 1, turnId, tenantId: "t", conversationId: turnId, revision: "bench" },
      messages: [{ role: "user", content: "Go on." }],
      sampling: {
        ...{ maxTokens, temperature: 0, topK: 0, topP: 1, minP: 0 },
        ...{ repetitionPenalty: 1, stop: [], seed: 0 },
      },
      ...{ requestedAt: Date.now(), correlationId: turnId, priority: "interactive" },
    };
  });
}

/** Starts what has the connections. `paying` are the parts whose processor time it costs. */
async function startDoor(
  path: Path,
  { redisUrl, folder, peerDir }: Surroundings,
): Promise<{ url: string; paying: Part[]; others: Part[] }> {
  if (path === "door") {
    const door = await startPart("door.ts", { redisUrl });
    return { url: String(door.ready["url"]), paying: [door], others: [] };
  }
  if (path === "socket.io") {
    const door = await startPart("socket-io-door.ts", { redisUrl, folder: peerDir });
    return { url: String(door.ready["url"]), paying: [door], others: [] };
  }
  const gateway = await startPart("gateway.ts", { redisUrl, pageDir: folder });
  const endpoint = String(gateway.ready["httpUrl"]);
  const relay = await startPart("callback-relay.ts", { redisUrl, endpoint, callsPerSecond: 8_000 });
  return { url: String(gateway.ready["url"]), paying: [relay], others: [gateway] };
}

const spreadMs = (us: readonly number[]): Spread => ({
  p50: quantile(us, 0.5) / 1_000,
  p99: quantile(us, 0.99) / 1_000,
});

/** One measurement: a load over a path, all its processes new. */
export async function runLoad(path: Path, load: Load, around: Surroundings): Promise<Result> {
  const { turns, tokensPerSecond, connections, seconds } = load;
  const redis = new Redis(around.redisUrl);
  await redis.flushall();
  redis.disconnect();
  // More than are read, so that no turn ends while it is measured.
  const tokens = tokensPerSecond * (warmUpSeconds + seconds + 120);
  const { url, paying, others } = await startDoor(path, around);
  const isPeer = path === "socket.io";
  const leader = await startPart(isPeer ? "socket-io-leader.ts" : "leader.ts", {
    ...{ redisUrl: around.redisUrl, tokensPerSecond, tokens, slots: turns },
    folder: around.peerDir,
  });
  const jobs = jobsOf(turns, tokens);
  const readers = await startPart("readers.ts", {
    ...{ url, connections, turnIds: jobs.map(({ turnId }) => turnId) },
    ...(isPeer && { dialect: "socket.io" }),
  });
  try {
    await readers.ask("watch");
    await sleep(1_000);
    // Turns begin one after the other, as users ask, and not all in one moment.
    const slice = Math.ceil(turns / slices);
    for (let i = 0; i < turns; i += slice) {
      await leader.ask({ jobs: jobs.slice(i, i + slice) });
      await sleep((warmUpSeconds * 1_000) / slices);
    }
    await sleep(1_000);
    const first = ((await readers.ask("seen")) as Seen).firstUs;
    const cpu = async (parts: readonly Part[]) =>
      (await Promise.all(parts.map((part) => part.cpuSeconds()))).reduce(
        (sum, one) => sum + one,
        0,
      );
    const [doorBefore, leaderBefore] = [await cpu(paying), await cpu([leader])];
    const startedAt = performance.now();
    await sleep(seconds * 1_000);
    const seen = (await readers.ask("seen")) as Seen;
    const elapsed = (performance.now() - startedAt) / 1_000;
    const doorCpu = (await cpu(paying)) - doorBefore;
    const leaderCpu = (await cpu([leader])) - leaderBefore;
    return {
      firstMs: spreadMs(first),
      tokenMs: spreadMs(seen.tokenUs),
      deliveredPerSecond: seen.tokens / elapsed,
      deliveredShare: seen.tokens / elapsed / (turns * tokensPerSecond),
      framesPerThousand: (seen.frames / seen.tokens) * 1_000,
      tokensPerDoorCpuSecond: seen.tokens / doorCpu,
      tokensPerLeaderCpuSecond: seen.tokens / leaderCpu,
      gaps: seen.gaps,
    };
  } finally {
    for (const part of [readers, leader, ...paying, ...others]) part.kill();
  }
}
