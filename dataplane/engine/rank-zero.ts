/**
 * Rank 0, in a worker thread of the leader's process: the hub of the group, the first share of the
 * model, and the sampler. It runs the steps that the main thread sends, one at a time.
 */

import { parentPort, workerData } from "node:worker_threads";
import { Checkpoint } from "./checkpoint/checkpoint.ts";
import { type Collective, SoloCollective } from "./collectives/collective.ts";
import { SharedMemoryCollective } from "./collectives/shared-memory.ts";
import { listenForRanks, TcpHub } from "./collectives/tcp-hub.ts";
import { toEngineError } from "./engine-error.ts";
import { LlamaModel } from "./model/llama.ts";
import { shardModel } from "./model/shard.ts";
import type { FromRankZero, RankZeroOptions, ToRankZero } from "./rank-messages.ts";
import { type Draw, drawToken } from "./sampler.ts";
import { encodePlan, type StepPlan } from "./step-plan.ts";

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

/** Runs a step on all ranks and draws its tokens: [draws] token ids. */
async function runStep(
  model: LlamaModel,
  collective: Collective,
  plan: StepPlan,
  draws: Draw[],
): Promise<Int32Array<ArrayBuffer>> {
  await collective.broadcast(encodePlan(plan));
  const logits = (await model.forward(plan)) ?? new Float32Array();
  const { vocabularySize } = model.config;
  const tokens = draws.map((draw, i) => {
    return drawToken(logits.subarray(i * vocabularySize, (i + 1) * vocabularySize), draw);
  });
  return Int32Array.from(tokens);
}

async function main(): Promise<void> {
  const checkpoint = await Checkpoint.open(options.modelDir);
  const { name, config, fingerprint, parameters } = checkpoint;
  shardModel(config, 0, options.ranks);
  const collective = await formGroup(fingerprint);
  const model = await LlamaModel.load(checkpoint, collective);
  await checkpoint.close();
  // The first all-reduce goes through when every rank has loaded its share.
  await collective.allReduce(new Float32Array(1));
  parentPort?.on("message", (message: ToRankZero) => {
    if (message.kind === "close") {
      collective.close();
      parentPort?.close();
    } else {
      runStep(model, collective, message.plan, message.draws).then(
        (tokens) => post({ kind: "stepped", tokens }),
        fail,
      );
    }
  });
  const { architecture, contextLength, vocabularySize, eosTokens } = config;
  const checkpointDescription = { model: name, fingerprint, parameters, architecture };
  const limits = { contextLength, vocabularySize, eosTokens };
  post({ kind: "ready", description: { ...checkpointDescription, ...limits } });
}

await main().catch(fail);
