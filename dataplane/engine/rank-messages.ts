import type { EngineDescription } from "./engine.ts";
import type { EngineErrorCode } from "./engine-error.ts";
import type { Draw } from "./sampler.ts";
import type { StepPlan } from "./step-plan.ts";

/** What rank 0's thread is started with. */
export interface RankZeroOptions {
  modelDir: string;
  ranks: number;
  epoch: number;
  secret: string;
  /** Where it listens for the other ranks; port 0 is any. */
  host: string;
  port: number;
  /** Shared with the other ranks, when they are threads; nobody listens then. */
  memory?: SharedArrayBuffer;
}

/** What another rank's thread is started with. */
export interface RankThreadOptions {
  modelDir: string;
  rank: number;
  ranks: number;
  memory: SharedArrayBuffer;
}

/** From the leader's main thread to rank 0. The next step is sent after the last one's answer. */
export type ToRankZero = { kind: "step"; plan: StepPlan; draws: Draw[] } | { kind: "close" };

export type FromRankZero =
  | { kind: "listening"; port: number }
  | { kind: "ready"; description: Omit<EngineDescription, "ranks" | "slots"> }
  | { kind: "stepped"; tokens: Int32Array }
  | { kind: "failed"; code: EngineErrorCode; message: string };
