import { Logger } from "@aws-lambda-powertools/logger";
import { Redis } from "ioredis";
import type { Delivery, JobQueue } from "../../dataplane/job-queue.ts";
import { Leader } from "../../dataplane/leader.ts";
import { tokenStream } from "../../dataplane/token-stream.ts";
import { TokenWriter } from "../../dataplane/token-writer.ts";
import { processId } from "../../events/ids.ts";
import type { Job } from "../../events/jobs.ts";
import { runPart } from "./part-process.ts";
import { stampText } from "./stamp.ts";
import { steadyEngine } from "./steady-engine.ts";

/**
 * A leader with the real token stream, writer and leases, an engine that computes nothing, and jobs from
 * its parent instead of a queue.
 */
export interface LeaderOrder {
  redisUrl: string;
  tokensPerSecond: number;
  tokens: number;
  slots: number;
}

/** Jobs from the parent; reports go nowhere. */
function parentQueue(): JobQueue & { offer(jobs: Job[]): void } {
  const waiting: Delivery[] = [];
  let wake = () => {};
  return {
    offer(jobs) {
      for (const job of jobs) waiting.push({ job, receipt: job.turnId, receiveCount: 1 });
      wake();
    },
    async receive(most, signal) {
      if (waiting.length === 0) {
        await new Promise<void>((resolve) => {
          wake = resolve;
          signal.addEventListener("abort", () => resolve(), { once: true });
        });
      }
      return waiting.splice(0, most);
    },
    hide: async () => {},
    delete: async () => {},
    report: async () => {},
  };
}

runPart<LeaderOrder, { jobs: Job[] }>(async (order) => {
  const redis = new Redis(order.redisUrl, { maxRetriesPerRequest: null });
  const stream = tokenStream(redis);
  const queue = parentQueue();
  const leaderId = processId("leader");
  const leader = new Leader({
    ...{
      engine: steadyEngine(order),
      stream,
      queue,
      leaderId,
      groupId: leaderId,
      revision: "bench",
    },
    tokenizer: {
      encodeChat: () => [1],
      encodeText: () => [1],
      detokenizer: () => ({ push: stampText, flush: () => "" }),
    },
    writer: new TokenWriter(stream, { now: Date.now, onError: console.error }),
    ...{ now: Date.now, abandonMs: 0, logger: new Logger({ logLevel: "SILENT" }) },
  });
  void leader.run();
  return { ready: {}, onMessage: ({ jobs }) => queue.offer(jobs) };
});
