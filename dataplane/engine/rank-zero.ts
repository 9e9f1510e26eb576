/**
 * Rank 0, in a worker thread of the leader's process: the hub of the group, the first share of the
 * model, and the engine's loop, which decides what runs in each step and draws the tokens.
 */

import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { cachePages } from "./cache-size.ts";
import { Checkpoint } from "./checkpoint/checkpoint.ts";
import { type Collective, SoloCollective } from "./collectives/collective.ts";
import { SharedMemoryCollective } from "./collectives/shared-memory.ts";
import { listenForRanks, TcpHub } from "./collectives/tcp-hub.ts";
import { DrawStep } from "./draw-step.ts";
import { EngineCore } from "./engine-core.ts";
import { EngineCounters } from "./engine-counters.ts";
import { toEngineError } from "./engine-error.ts";
import { shardModel } from "./model/shard.ts";
import type { FromRankZero, RankZeroOptions, ToRankZero } from "./rank-messages.ts";
import { encodeSetup, loadRank } from "./rank-setup.ts";
import { Scheduler } from "./scheduler.ts";

/** Of a step's tokens, the share that it may have while others decode: prompts make them wait. */
const sharedShare = 1 / 4;

const options: RankZeroOptions = workerData;

function post(message: FromRankZero): void {
  parentPort?.postMessage(message);
}

function fail(thrown: unknown): void {
  const { code, message } = toEngineError(thrown);
  post({ kind: "failed", code, message });
}

async function formGroup(fingerprint: string): Promise<Collective> {
  const { ranks, epoch, secret, host, port, memory } = options;
  if (ranks === 1) return new SoloCollective();
  if (memory !== undefined) return new SharedMemoryCollective(memory, 0, ranks);
  const identity = { ranks, epoch, secret, fingerprint };
  const entrance = await listenForRanks(identity, { host, port });
  post({ kind: "listening", port: entrance.port });
  return new TcpHub(await entrance.complete, fail);
}

/** The loop's end is the thread's only when the group is closed; what goes wrong ends the group. */
function startCore(
  collective: Collective,
  { model, step }: Awaited<ReturnType<typeof loadRank>>,
  scheduler: Scheduler,
): void {
  const drawStep = new DrawStep(step, collective, model.config.vocabularySize);
  const take = (message: ToRankZero) => {
    if (message.kind === "add") core.add(message.id, message.request);
    else if (message.kind === "cancel") core.cancel(message.id);
    else {
      collective.close();
      parentPort?.close();
    }
  };
  const core = new EngineCore({
    scheduler,
    counters: new EngineCounters(options.counters),
    runStep: (planned) => drawStep.run(planned),
    // While threads wait for each other in shared memory, no event loop turns.
    receive: () => {
      while (parentPort !== null) {
        const received: { message: ToRankZero } | undefined = receiveMessageOnPort(parentPort);
        if (received === undefined) return;
        take(received.message);
      }
    },
    post: (events) => post({ kind: "events", events }),
  });
  parentPort?.on("message", (message: ToRankZero) => {
    take(message);
    core.run().catch(fail);
  });
}

async function main(): Promise<void> {
  const checkpoint = await Checkpoint.open(options.modelDir);
  const { name, config, fingerprint, parameters } = checkpoint;
  const { ranks, slots, weights, tokensPerStep } = options;
  shardModel(config, 0, ranks);
  const collective = await formGroup(fingerprint);
  const contextLength = Math.min(
    options.contextLength ?? config.contextLength,
    config.contextLength,
  );
  const pages = cachePages(config, { ...options, contextLength });
  const setup = { weights, rows: tokensPerStep, pages };
  await collective.broadcast(encodeSetup(setup));
  const rank = await loadRank(checkpoint, collective, setup);
  const { architecture, vocabularySize, eosTokens } = config;
  const tokensPerSharedStep = Math.ceil(tokensPerStep * sharedShare);
  const budget = { tokensPerStep, tokensPerSharedStep };
  const scheduler = new Scheduler({ ...budget, slots, contextLength, pages, eosTokens });
  startCore(collective, rank, scheduler);
  const checkpointDescription = { model: name, fingerprint, parameters, architecture };
  const limits = { contextLength, vocabularySize, eosTokens, ranks, slots, weights };
  post({ kind: "ready", description: { ...checkpointDescription, ...limits } });
}

await main().catch(fail);
