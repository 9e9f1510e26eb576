import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { jobsOf } from "./load.ts";
import { startPart } from "./part-process.ts";
import type { Seen } from "./readers.ts";

const turns = 20;
const tokensPerSecond = 50;

/** Kills a leader in the middle of its turns. @returns of each turn, the silence that its reader has heard, ms. */
export async function measureTakeover({
  redisUrl,
  rounds,
}: {
  redisUrl: string;
  rounds: number;
}): Promise<number[]> {
  const silences: number[] = [];
  for (let round = 0; round < rounds; round++) {
    console.error(`takeover ${round + 1} of ${rounds}`);
    const redis = new Redis(redisUrl);
    await redis.flushall();
    redis.disconnect();
    const tokens = tokensPerSecond * 7;
    const order = { redisUrl, tokensPerSecond, tokens, slots: turns };
    const door = await startPart("door.ts", { redisUrl });
    const first = await startPart("leader.ts", order);
    const second = await startPart("leader.ts", order);
    const jobs = jobsOf(turns, tokens);
    const readers = await startPart("readers.ts", {
      ...{ url: door.ready["url"], connections: turns, turnIds: jobs.map(({ turnId }) => turnId) },
    });
    try {
      await readers.ask("watch");
      await first.ask({ jobs });
      // Another time between two renewals in each round.
      await sleep(2_000 + (round * 1_000) / rounds);
      first.kill("SIGKILL");
      const seen: Seen[] = [];
      while ((seen.at(-1)?.ended ?? 0) < turns) {
        await sleep(500);
        seen.push((await readers.ask("seen")) as Seen);
      }
      if (seen.some(({ gaps }) => gaps > 0)) throw new Error("A reader has missed a token.");
      silences.push(...seen.flatMap(({ silenceMs }) => silenceMs));
    } finally {
      for (const part of [readers, second, door]) part.kill();
    }
  }
  return silences;
}
