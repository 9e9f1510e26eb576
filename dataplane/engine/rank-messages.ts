import type { EngineDescription, WeightFormat } from "./engine.ts";
import type { EngineErrorCode } from "./engine-error.ts";
import type { Draw } from "./sampler.ts";
import type { StepPlan } from "./step-plan.ts";

/** What rank 0's thread is started with. */
export interface RankZeroOptions {
  modelDir: string;
  ranks: number;
  weights: WeightFormat;
  slots: number;
  /** Tokens that one step computes at most. */
  tokensPerStep: number;
  /** Shorter than the model's own, if given. */
  contextLength?: number;
  /** For keys and values, of all ranks together, if given. */
  cacheBytes?: number;
  epoch: number;
  secret: string;
  /** Where it listens for the other ranks, when they are processes; port 0 is any. */
  host: string;
  port: number;
  /** Shared with the other ranks, when they are threads; nobody listens then. */
  memory?: WebAssembly.Memory;
}

/** What another rank's thread is started with. */
export interface RankThreadOptions {
  modelDir: string;
  rank: number;
  ranks: number;
  memory: WebAssembly.Memory;
}

/** From the leader's main thread to rank 0. The next step is sent after the last one's answer. */
export type ToRankZero = { kind: "step"; plan: StepPlan; draws: Draw[] } | { kind: "close" };

export type FromRankZero =
  | { kind: "listening"; port: number }
  | { kind: "ready"; pages: number; description: EngineDescription }
  | { kind: "stepped"; tokens: Int32Array }
  | { kind: "failed"; code: EngineErrorCode; message: string };
