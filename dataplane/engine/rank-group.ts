/**
 * The group of ranks as the leader's main thread sees it: rank 0 in a thread, the others in
 * processes or threads, all of them or none.
 *
 *   forming  threads and processes start, join and load. Exits: ready (all have), failed, closed.
 *   ready    answers requests. Exits: failed (any rank is lost), closed.
 *   failed   every rank is killed; requests get the reason. Exit: closed. A new group is formed instead.
 *   closed   the ranks were told to end, and have. No exit.
 */

import type { Worker } from "node:worker_threads";
import { allocateSharedGroup, closeSharedGroup } from "./collectives/shared-memory.ts";
import type { CheckpointDescription, EngineHealth } from "./engine.ts";
import { EngineError } from "./engine-error.ts";
import { type RankMember, startRankProcess, startRankThread } from "./rank-members.ts";
import type { FromRankZero, RankZeroOptions, RequestEvent, ToRankZero } from "./rank-messages.ts";

/** How long ranks have to end by themselves when the group is closed. */
const closeTimeoutMs = 1_000;
const rankZeroProgram = new URL("./rank-zero.ts", import.meta.url);
const rankThreadProgram = new URL("./rank-thread.ts", import.meta.url);

/**
 * How the other ranks run, and talk: threads over shared memory, processes over TCP that the group
 * starts itself, or processes on other hosts that somebody else starts, which join over TCP.
 */
export type Transport = "threads" | "tcp" | "remote";

export interface GroupOptions extends RankZeroOptions {
  transport: Transport;
  formingTimeoutMs: number;
}

export class RankGroup {
  #state: EngineHealth["state"] = "forming";
  readonly #options: GroupOptions;
  readonly #rankZero: Worker;
  /** In the order of ranks, rank 0 among them. */
  readonly #members: RankMember[] = [];
  readonly #ready = Promise.withResolvers<CheckpointDescription>();
  #error: EngineError | undefined;
  #closing: Promise<void> | undefined;
  #onFailure: (error: EngineError) => void = () => {};
  #onEvents: (events: RequestEvent[]) => void = () => {};

  private constructor(options: GroupOptions) {
    this.#options = options;
    // The error that waits here belongs to whoever forms the group, or to nobody any more.
    this.#ready.promise.catch(() => {});
    const { formingTimeoutMs: _, transport: __, ...workerData } = options;
    const rankZero = startRankThread(0, rankZeroProgram, workerData, (error) => this.#fail(error));
    this.#members.push(rankZero.member);
    this.#rankZero = rankZero.worker;
    this.#rankZero.on("message", (message: FromRankZero) => this.#receive(message));
    const { memory, modelDir, ranks } = options;
    for (let rank = 1; rank < ranks && memory !== undefined; rank += 1) {
      const threadOptions = { modelDir, rank, ranks, memory };
      const onEnd = (error: EngineError) => this.#fail(error);
      this.#members.push(startRankThread(rank, rankThreadProgram, threadOptions, onEnd).member);
    }
  }

  /**
   * Starts all ranks, and resolves when each has loaded its share.
   * Throws EngineError when any of them cannot be had; none is left then.
   */
  static async form(options: GroupOptions) {
    const memory = options.transport === "threads" ? allocateSharedGroup(options.ranks) : undefined;
    const group = new RankGroup(memory === undefined ? options : { ...options, memory });
    const timer = setTimeout(() => {
      const message = `The group was not complete after ${options.formingTimeoutMs} ms.`;
      group.#fail(new EngineError("forming_failed", message));
    }, options.formingTimeoutMs);
    try {
      return { group, description: await group.#ready.promise };
    } catch (error) {
      await group.#kill();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  get state(): EngineHealth["state"] {
    return this.#state;
  }

  get ranks(): EngineHealth["ranks"] {
    return this.#members.map((member, rank) => {
      return { rank, pid: member.pid, alive: member.isAlive() };
    });
  }

  onFailure(listener: (error: EngineError) => void): void {
    this.#onFailure = listener;
    if (this.#error !== undefined && this.#state === "failed") listener(this.#error);
  }

  /** `listener` hears of what becomes of requests. */
  onEvents(listener: (events: RequestEvent[]) => void): void {
    this.#onEvents = listener;
  }

  tell(message: ToRankZero): void {
    this.#rankZero.postMessage(message);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const wasReady = this.#state === "ready";
    this.#state = "closed";
    this.#end(new EngineError("closed", "The engine was closed."));
    if (wasReady) {
      this.tell({ kind: "close" });
      const timeout = Promise.withResolvers<void>();
      const timer = setTimeout(timeout.resolve, closeTimeoutMs);
      await Promise.race([this.#allEnded(), timeout.promise]);
      clearTimeout(timer);
    }
    await this.#kill();
  }

  #receive(message: FromRankZero): void {
    if (message.kind === "listening") {
      this.#startProcesses(message.port);
    } else if (message.kind === "ready") {
      if (this.#state === "forming") this.#state = "ready";
      this.#ready.resolve(message.description);
    } else if (message.kind === "events") {
      this.#onEvents(message.events);
    } else {
      this.#fail(new EngineError(message.code, message.message));
    }
  }

  #startProcesses(port: number): void {
    if (this.#state !== "forming" || this.#options.transport === "remote") return;
    for (let rank = 1; rank < this.#options.ranks; rank += 1) {
      const member = startRankProcess(rank, this.#options, port, (error) => {
        const hasFormed = this.#state !== "forming";
        this.#fail(hasFormed ? error : new EngineError("forming_failed", error.message));
      });
      this.#members.push(member);
    }
  }

  #fail(error: EngineError): void {
    if (this.#state === "failed" || this.#state === "closed") return;
    this.#state = "failed";
    this.#end(error);
    void this.#kill();
    this.#onFailure(error);
  }

  #end(error: EngineError): void {
    this.#error = error;
    this.#ready.reject(error);
  }

  async #kill(): Promise<void> {
    if (this.#options.memory !== undefined) closeSharedGroup(this.#options.memory);
    for (const member of this.#members) member.kill();
    await this.#allEnded();
  }

  async #allEnded(): Promise<void> {
    await Promise.all(this.#members.map((member) => member.ended));
  }
}
