import type { Logger } from "@aws-lambda-powertools/logger";
import { SQSClient } from "@aws-sdk/client-sqs";
import type { Redis } from "ioredis";
import { processId } from "../events/ids.ts";
import { type RedisClient, redisClient, redisSubscriber } from "../events/redis-client.ts";
import { cancelChannel } from "../events/redis-keys.ts";
import { openTracing, type Tracing } from "../events/tracing/tracing.ts";
import { type WorkerConfig, workerConfig } from "./config.ts";
import { type EmbeddedEngineOptions, startEmbeddedEngine } from "./engine/embedded.ts";
import type { Engine } from "./engine/engine.ts";
import { announceGroup, isToDrain } from "./group.ts";
import { GroupGuard } from "./group-guard.ts";
import { SqsJobQueue } from "./job-queue.ts";
import { Leader } from "./leader.ts";
import { gaugeLeader, type LeaderMeter, leaderMeter } from "./metrics/leader-meter.ts";
import { startServedEngine } from "./openai/start-served-engine.ts";
import { pacedEngine } from "./paced-engine.ts";
import { runProcess } from "./process.ts";
import { type TokenStream, tokenStream } from "./token-stream.ts";
import { TokenWriter } from "./token-writer.ts";
import { loadTokenizer } from "./tokenizer.ts";
import { TurnTracer } from "./turn-tracer.ts";
import { tokensPerStep } from "./worker-defaults.ts";

/**
 * A tensor-parallel group: this process leads it, takes jobs for one revision, and starts the ranks
 * that compute. When a rank dies the process ends with it, and whoever runs it starts a new group.
 */
const help = `
node dataplane/worker.ts: the leader of a tensor-parallel group.

It is configured by the environment:
  REDIS_URL                  where token streams are written; redis+cluster:// (rediss+cluster:// with TLS)
                             where it is a cluster
  AXON_ENGINE                embedded (default), vllm, or openai: any server with OpenAI's API, by text
  AXON_ENGINE_URL            vllm, openai: where the server is
  AXON_ENGINE_API_KEY        vllm, openai: sent as a bearer token
  AXON_ENGINE_MODEL          vllm, openai: the model's name there (default: the first that it lists)
  AXON_ENGINE_READY_MS       vllm, openai: how long the server may take to come (default 1800000)
  AXON_ENGINE_STALL_MS       vllm, openai: with requests and without a step for so long the server is
                             stuck (default 60000)
  AXON_MODEL_DIR             a Hugging Face folder (Llama architecture), a .gguf file, or a folder with
                             one. openai: only the tokenizer is read; vllm: not needed
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
  AXON_VOCABULARY_TOKENS     vllm: tokens from here on are refused before a GPU meets them
  AXON_CACHE_MIB             memory for keys and values, of all ranks together (default 1024)
  AXON_SLOTS                 turns at the same time (default 16)
  AXON_ABANDON_MS            how long a turn goes on that nobody watches (default 60000; 0: for ever)
  AXON_MS_PER_TOKEN          no faster than this in a turn, to see what happens in an answer (default 0)
  AXON_DRAIN_MS              time for running turns after SIGTERM (default 10000)
  AXON_GROUP_ID              the group's name, which its followers know (default: one of its own)
  AXON_FOLLOWERS             other nodes of the group, each with a follower.ts (default 0)
  AXON_NCCL_LOGS             the folder of NCCL_DEBUG_FILE: no start unless NCCL uses EFA
  AXON_PROBES                HOST:PORT that answers GET /live, GET /ready and GET /metrics
  AXON_STALL_MS              /live fails when turns run and no step is made for so long (default 30000)
  OTEL_EXPORTER_OTLP_ENDPOINT, AXON_TRACE_FILE
                             where spans go (docs/OBSERVABILITY.md)
  AXON_TRACE_CONTENT_TENANTS tenants, with commas between them, whose texts may stand in their traces
  LOG_LEVEL                  DEBUG, INFO, WARN or ERROR
and by what the AWS SDK reads: AWS_REGION, AWS_ENDPOINT_URL_SQS, credentials.
`;

/** Commands wait while Redis is away instead of failing: the writer keeps its tokens meanwhile. */
function connectRedis(url: string, logger: Logger): { redis: RedisClient; subscriber: Redis } {
  const redis = redisClient(url, { maxRetriesPerRequest: null });
  const subscriber = redisSubscriber(redis);
  for (const client of [redis, subscriber]) {
    client.on("error", (error) => logger.warn("Redis is away", { error }));
  }
  return { redis, subscriber };
}

function jobQueue(
  sqs: SQSClient,
  config: WorkerConfig,
  { logger, meter }: { logger: Logger; meter: LeaderMeter },
): SqsJobQueue {
  const urls = {
    jobsQueueUrl: config.AXON_JOBS_QUEUE_URL,
    deadLetterQueueUrl: config.AXON_JOBS_DEAD_QUEUE_URL,
    reportsQueueUrl: config.AXON_REPORTS_QUEUE_URL,
  };
  return new SqsJobQueue(sqs, urls, (messageId, reason) => {
    meter.jobsMalformed.add();
    logger.error("a job cannot be read", { messageId, reason });
  });
}

/** What still runs gives its lease up, so that the turns move at once. */
async function endWithGroup(leader: Leader, logger: Logger, error: unknown): Promise<never> {
  logger.critical("the group has failed", { error: error as Error });
  await Promise.race([leader.drain(0), new Promise((resolve) => setTimeout(resolve, 2_000))]);
  process.exit(1);
}

function engineOptions(config: WorkerConfig, modelDir: string): EmbeddedEngineOptions {
  const { AXON_LISTEN: listen, AXON_GROUP_SECRET: secret } = config;
  const { AXON_CONTEXT_TOKENS: contextLength, AXON_CACHE_MIB: cacheMib } = config;
  const isRemote = config.AXON_TRANSPORT === "remote";
  return {
    modelDir,
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

async function startEngine(config: WorkerConfig, logger: Logger) {
  const { AXON_ENGINE: kind, AXON_ENGINE_URL: url = "", AXON_ENGINE_API_KEY: apiKey } = config;
  const { AXON_MODEL_DIR: modelDir = "" } = config;
  if (kind === "embedded") {
    const [engine, tokenizer] = await Promise.all([
      startEmbeddedEngine(engineOptions(config, modelDir)),
      loadTokenizer(modelDir),
    ]);
    return { engine, tokenizer };
  }
  return startServedEngine({
    ...{ kind, url, modelDir, model: config.AXON_ENGINE_MODEL },
    ...(apiKey !== undefined && { apiKey }),
    contextLength: config.AXON_CONTEXT_TOKENS,
    vocabularySize: config.AXON_VOCABULARY_TOKENS,
    slots: config.AXON_SLOTS,
    ranks: config.AXON_TP,
    stallMs: config.AXON_ENGINE_STALL_MS,
    readyMs: config.AXON_ENGINE_READY_MS,
    note: (what) => logger.info(what, { url }),
  });
}

function tokenWriter(
  stream: TokenStream,
  { logger, meter }: { logger: Logger; meter: LeaderMeter },
): TokenWriter {
  return new TokenWriter(stream, {
    ...{ now: Date.now, meter },
    onError: (error) => logger.warn("tokens wait for Redis", { error: error as Error }),
  });
}

/** Share of the engine's room for keys and values that is taken; undefined where it does not tell. */
function kvUseOf(engine: Engine): number | undefined {
  const { pages, usedPages } = engine.health().cache;
  return pages === 0 ? undefined : Math.min(1, usedPages / pages);
}

function openWorkerTracing(
  { groupId, leaderId, revision }: { groupId: string; leaderId: string; revision: string },
  logger: Logger,
): Promise<Tracing | undefined> {
  return openTracing(process.env, {
    service: "axon-worker",
    attributes: {
      ...{ "service.instance.id": leaderId, "service.version": revision },
      "axon.group.id": groupId,
    },
    note: (message, details) => logger.warn(message, details),
  });
}

function turnTracer(
  tracing: Tracing,
  config: WorkerConfig,
  redis: RedisClient,
  engine: Engine,
): TurnTracer {
  return new TurnTracer({
    ...{ tracing, redis },
    queueName: config.AXON_JOBS_QUEUE_URL.split("/").at(-1) ?? "",
    provider: config.AXON_ENGINE === "embedded" ? "axon" : config.AXON_ENGINE,
    isRemoteEngine: config.AXON_ENGINE !== "embedded",
    model: engine.describe().model,
    contentTenants: config.AXON_TRACE_CONTENT_TENANTS,
  });
}

async function start(logger: Logger) {
  const config = workerConfig(process.env);
  const revision = config.AXON_REVISION;
  const leaderId = processId("leader");
  const epoch = Date.now();
  const groupId = config.AXON_GROUP_ID ?? processId("group");
  logger.appendKeys({ groupId, leaderId, revision });

  const { redis, subscriber } = connectRedis(config.REDIS_URL, logger);
  const stream = tokenStream(redis);
  const guard = await GroupGuard.open(config, { redis, groupId, logger });
  const { engine: started, tokenizer } = await Promise.race([
    startEngine(config, logger),
    guard.failure,
  ]);
  const pace = config.AXON_MS_PER_TOKEN;
  const engine = await guard.admit(pace > 0 ? pacedEngine(started, pace) : started);
  const { model, ranks, slots } = engine.describe();
  const meter = leaderMeter({ model, revision, group: groupId });
  const sqs = new SQSClient();
  const writer = tokenWriter(stream, { logger, meter });
  const tracing = await openWorkerTracing({ groupId, leaderId, revision }, logger);
  const leader = new Leader({
    ...{ engine, tokenizer, stream, leaderId, groupId, logger, revision, meter },
    tracer: tracing && turnTracer(tracing, config, redis, engine),
    abandonMs: config.AXON_ABANDON_MS,
    queue: jobQueue(sqs, config, { logger, meter }),
    ...{ writer, now: Date.now },
  });

  const missingFollowers = () => guard.missingFollowers;
  const stopCounting = gaugeLeader(meter, { engine, leader, missingFollowers });
  guard.tells(() => meter.registry.exposition());

  subscriber.on("message", (_channel, turnId) => leader.cancel(turnId));
  await subscriber.subscribe(cancelChannel);
  const describe = () => ({
    ...{ revision, leaderId, epoch, ranks, slots },
    ...{ running: leader.running, isAccepting: leader.isAccepting },
    ...{ kvUse: kvUseOf(engine), tokens: writer.written },
  });
  // One that was told so before it was started has to know it before its first job.
  if (await isToDrain(redis, groupId)) leader.retire();
  const withdraw = announceGroup(redis, groupId, {
    describe,
    drained: () => leader.retire(),
    // As if it were asked to end from outside; whoever has started it starts it again.
    rotated: () => process.kill(process.pid, "SIGTERM"),
  });
  leader.run().catch((error: unknown) => endWithGroup(leader, logger, error));

  const members = engine.health().ranks.map(({ rank, pid }) => ({ rank, pid }));
  return {
    ready: {
      ...{ role: "leader", groupId, leaderId, model, revision, ranks: members },
      probes: guard.probesUrl,
    },
    async drain() {
      guard.drains();
      await leader.drain(config.AXON_DRAIN_MS);
      await withdraw();
      await engine.close();
      await guard.close();
      await tracing?.flush(1_000);
      stopCounting();
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
