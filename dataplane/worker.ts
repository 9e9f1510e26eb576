import type { Logger } from "@aws-lambda-powertools/logger";
import { SQSClient } from "@aws-sdk/client-sqs";
import { Redis } from "ioredis";
import { processId } from "../events/ids.ts";
import { cancelChannel } from "../events/redis-keys.ts";
import { type WorkerConfig, workerConfig } from "./config.ts";
import { type EmbeddedEngineOptions, startEmbeddedEngine } from "./engine/embedded.ts";
import { announceGroup } from "./group.ts";
import { SqsJobQueue } from "./job-queue.ts";
import { Leader } from "./leader.ts";
import { pacedEngine } from "./paced-engine.ts";
import { runProcess } from "./process.ts";
import { tokenStream } from "./token-stream.ts";
import { TokenWriter } from "./token-writer.ts";
import { loadTokenizer } from "./tokenizer.ts";
import { tokensPerStep } from "./worker-defaults.ts";

/**
 * A tensor-parallel group: this process leads it, takes jobs for one revision, and starts the ranks
 * that compute. When a rank dies the process ends with it, and whoever runs it starts a new group.
 */
const help = `
node dataplane/worker.ts: the leader of a tensor-parallel group.

It is configured by the environment:
  REDIS_URL                  where token streams are written
  AXON_MODEL_DIR             a Hugging Face folder (Llama architecture), a .gguf file, or a folder with
                             one
  AXON_REVISION              the model revision that it serves
  AXON_JOBS_QUEUE_URL        the revision's queue
  AXON_JOBS_DEAD_QUEUE_URL   where jobs go that cannot be read
  AXON_REPORTS_QUEUE_URL     where it reports what became of a turn
  AXON_TP                    ranks that the weights are split over (default 2)
  AXON_TRANSPORT             how the other ranks run: threads (default), tcp (processes of this
                             host) or remote (they join from other hosts: axon worker --help)
  AXON_LISTEN                remote: HOST:PORT where they join
  AXON_GROUP_SECRET          remote: what they have to know, 16 characters or more
  AXON_WEIGHTS               int8 (default) or f32, which is exact and slow
  AXON_CONTEXT_TOKENS        a shorter context than the model's
  AXON_CACHE_MIB             memory for keys and values, of all ranks together (default 1024)
  AXON_SLOTS                 turns at the same time (default 16)
  AXON_ABANDON_MS            how long a turn goes on that nobody watches (default 60000; 0: for ever)
  AXON_MS_PER_TOKEN          no faster than this in a turn, to see what happens in an answer (default 0)
  AXON_DRAIN_MS              time for running turns after SIGTERM (default 10000)
  LOG_LEVEL                  DEBUG, INFO, WARN or ERROR
and by what the AWS SDK reads: AWS_REGION, AWS_ENDPOINT_URL_SQS, credentials.
`;

/** Commands wait while Redis is away instead of failing: the writer keeps its tokens meanwhile. */
function connectRedis(url: string, logger: Logger): { redis: Redis; subscriber: Redis } {
  const redis = new Redis(url, { maxRetriesPerRequest: null });
  const subscriber = redis.duplicate();
  for (const client of [redis, subscriber]) {
    client.on("error", (error) => logger.warn("Redis is away", { error }));
  }
  return { redis, subscriber };
}

function jobQueue(sqs: SQSClient, config: WorkerConfig, logger: Logger): SqsJobQueue {
  const urls = {
    jobsQueueUrl: config.AXON_JOBS_QUEUE_URL,
    deadLetterQueueUrl: config.AXON_JOBS_DEAD_QUEUE_URL,
    reportsQueueUrl: config.AXON_REPORTS_QUEUE_URL,
  };
  return new SqsJobQueue(sqs, urls, (messageId, reason) =>
    logger.error("a job cannot be read", { messageId, reason }),
  );
}

/** What still runs gives its lease up, so that the turns move at once. */
async function endWithGroup(leader: Leader, logger: Logger, error: unknown): Promise<never> {
  logger.critical("the group has failed", { error: error as Error });
  await Promise.race([leader.drain(0), new Promise((resolve) => setTimeout(resolve, 2_000))]);
  process.exit(1);
}

function engineOptions(config: WorkerConfig): EmbeddedEngineOptions {
  const { AXON_LISTEN: listen, AXON_GROUP_SECRET: secret } = config;
  const { AXON_CONTEXT_TOKENS: contextLength, AXON_CACHE_MIB: cacheMib } = config;
  const isRemote = config.AXON_TRANSPORT === "remote";
  return {
    modelDir: config.AXON_MODEL_DIR,
    ranks: config.AXON_TP,
    transport: config.AXON_TRANSPORT,
    slots: config.AXON_SLOTS,
    tokensPerStep,
    weights: config.AXON_WEIGHTS,
    // Ranks of an earlier group cannot be taken for ones of this.
    epoch: Date.now(),
    ...(contextLength !== undefined && { contextLength }),
    ...(cacheMib !== undefined && { cacheBytes: cacheMib * 2 ** 20 }),
    ...(isRemote && listen !== undefined && { listen }),
    ...(isRemote && secret !== undefined && { secret }),
    // Other hosts may take their time to come.
    ...(isRemote && { formingTimeoutMs: 600_000 }),
  };
}

async function start(logger: Logger) {
  const config = workerConfig(process.env);
  const revision = config.AXON_REVISION;
  const leaderId = processId("leader");
  const groupId = config.AXON_GROUP_ID ?? processId("group");
  logger.appendKeys({ groupId, leaderId, revision });

  const [embedded, tokenizer] = await Promise.all([
    startEmbeddedEngine(engineOptions(config)),
    loadTokenizer(config.AXON_MODEL_DIR),
  ]);
  const pace = config.AXON_MS_PER_TOKEN;
  const engine = pace > 0 ? pacedEngine(embedded, pace) : embedded;
  const { redis, subscriber } = connectRedis(config.REDIS_URL, logger);
  const sqs = new SQSClient();
  const stream = tokenStream(redis);
  const leader = new Leader({
    ...{ engine, tokenizer, stream, leaderId, groupId, logger, revision },
    abandonMs: config.AXON_ABANDON_MS,
    queue: jobQueue(sqs, config, logger),
    writer: new TokenWriter(stream, {
      now: Date.now,
      onError: (error) => logger.warn("tokens wait for Redis", { error: error as Error }),
    }),
    now: Date.now,
  });

  subscriber.on("message", (_channel, turnId) => leader.cancel(turnId));
  await subscriber.subscribe(cancelChannel);
  const { model, ranks, slots } = engine.describe();
  const withdraw = announceGroup(redis, groupId, () => ({
    ...{ revision, leaderId, ranks, slots },
    running: leader.running,
  }));
  leader.run().catch((error: unknown) => endWithGroup(leader, logger, error));

  const members = engine.health().ranks.map(({ rank, pid }) => ({ rank, pid }));
  return {
    ready: { role: "leader", groupId, leaderId, model, revision, ranks: members },
    async drain() {
      await leader.drain(config.AXON_DRAIN_MS);
      await withdraw();
      await engine.close();
      redis.disconnect();
      subscriber.disconnect();
      sqs.destroy();
    },
  };
}

await runProcess({
  start,
  help,
  serviceName: "axon-worker",
  logLevel: () => workerConfig(process.env).LOG_LEVEL,
});
