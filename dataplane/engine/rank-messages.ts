import type {
  CheckpointDescription,
  EngineEvent,
  GenerateRequest,
  WeightFormat,
} from "./engine.ts";
import type { EngineErrorCode } from "./engine-error.ts";

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
  /** Of `EngineCounters`. */
  counters: SharedArrayBuffer;
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

/** A request as it travels between threads, where a signal cannot. */
export type CoreRequest = Omit<GenerateRequest, "signal">;

export interface RequestEvent {
  id: number;
  event: EngineEvent;
}

/** From the leader's main thread to rank 0. Ids are the main thread's. */
export type ToRankZero =
  | { kind: "add"; id: number; request: CoreRequest }
  | { kind: "cancel"; id: number }
  | { kind: "close" };

export type FromRankZero =
  | { kind: "listening"; port: number }
  | { kind: "ready"; description: CheckpointDescription }
  | { kind: "events"; events: RequestEvent[] }
  | { kind: "failed"; code: EngineErrorCode; message: string };
