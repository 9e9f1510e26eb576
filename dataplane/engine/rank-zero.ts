/**
 * Rank 0, in a worker thread of the leader's process: the hub of the group, the first share of the
 * model, and the sampler. It runs the steps that the main thread sends, one at a time.
 */

import { parentPort, workerData } from "node:worker_threads";
import { cachePages } from "./cache-size.ts";
import { mergeCandidates } from "./candidates.ts";
import { Checkpoint } from "./checkpoint/checkpoint.ts";
import { type Collective, SoloCollective } from "./collectives/collective.ts";
import { SharedMemoryCollective } from "./collectives/shared-memory.ts";
import { listenForRanks, TcpHub } from "./collectives/tcp-hub.ts";
import { EngineError, toEngineError } from "./engine-error.ts";
import { shardModel } from "./model/shard.ts";
import type { FromRankZero, RankZeroOptions, ToRankZero } from "./rank-messages.ts";
import { encodeSetup, loadRank } from "./rank-setup.ts";
import { type Draw, drawToken } from "./sampler.ts";
import { encodeOrder, type RankOrder, type StepPlan } from "./step-plan.ts";

/** So many times as many candidates are asked for when a draw goes beyond them. */
const moreCandidates = 16;

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
  { model, step }: Awaited<ReturnType<typeof loadRank>>,
  collective: Collective,
  plan: StepPlan,
  draws: readonly Draw[],
): Promise<Int32Array<ArrayBuffer>> {
  const picks = plan.chunks.flatMap(({ pick }) => (pick === undefined ? [] : [pick]));
  const { vocabularySize } = model.config;
  const ask = async (order: RankOrder) => {
    await collective.broadcast(encodeOrder(order));
    return step.run(order);
  };
  const parts = await ask({ kind: "step", plan });
  const tokens = new Int32Array(draws.length);
  for (const [i, draw] of draws.entries()) {
    const pick = picks[i];
    let part = parts[i];
    let count = pick?.count ?? 0;
    for (;;) {
      if (pick === undefined || part === undefined) {
        throw new EngineError("internal", "A draw has no candidates.");
      }
      const candidates = mergeCandidates(part, vocabularySize, { ...pick, count });
      const token = drawToken(candidates, draw);
      if (token !== undefined) {
        tokens[i] = token;
        break;
      }
      count = Math.min(count * moreCandidates, vocabularySize);
      [part] = await ask({ kind: "more", draw: i, count });
    }
  }
  return tokens;
}

async function main(): Promise<void> {
  const checkpoint = await Checkpoint.open(options.modelDir);
  const { name, config, fingerprint, parameters } = checkpoint;
  shardModel(config, 0, options.ranks);
  const collective = await formGroup(fingerprint);
  const contextLength = Math.min(
    options.contextLength ?? config.contextLength,
    config.contextLength,
  );
  const pages = cachePages(config, { ...options, contextLength });
  const setup = { weights: options.weights, rows: options.tokensPerStep, pages };
  await collective.broadcast(encodeSetup(setup));
  const rank = await loadRank(checkpoint, collective, setup);
  parentPort?.on("message", (message: ToRankZero) => {
    if (message.kind === "close") {
      collective.close();
      parentPort?.close();
    } else {
      runStep(rank, collective, message.plan, message.draws).then(
        (tokens) => post({ kind: "stepped", tokens }),
        fail,
      );
    }
  });
  const { architecture, vocabularySize, eosTokens } = config;
  const checkpointDescription = { model: name, fingerprint, parameters, architecture };
  const { ranks, slots, weights } = options;
  const limits = { contextLength, vocabularySize, eosTokens, ranks, slots, weights };
  post({ kind: "ready", pages, description: { ...checkpointDescription, ...limits } });
}

await main().catch(fail);
