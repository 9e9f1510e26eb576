import type { Logger } from "@aws-lambda-powertools/logger";
import { retry } from "./backoff.ts";
import { type Delivery, type JobQueue, visibilitySeconds } from "./job-queue.ts";
import { leaseMs, lookMs, renewalMs } from "./lease.ts";
import { type Outcome, runTurn, type TurnDeps, TurnRun } from "./turn-run.ts";

export interface LeaderDeps extends TurnDeps {
  queue: JobQueue;
  logger: Logger;
  /** The revision that the group serves: of it turns are taken over. */
  revision: string;
  /** How long a turn goes on that nobody watches, ms; 0 for ever. */
  abandonMs: number;
}

/** A turn in this leader's hands. */
interface HeldTurn {
  run: TurnRun;
  /**
   * Every delivery of the turn's job: an outbox may have sent it twice. None when it was taken over: the
   * queue hands the job out again to someone, who finds the turn held or ended.
   */
  receipts: string[];
  ended: Promise<void>;
}

/** How often a leader with free slots looks again whether its engine has room. */
const roomLookMs = 250;

/** A duplicate of a job that another leader runs is dropped before it would count as undeliverable. */
const mostReceivesOfDuplicate = 4;

/**
 * The leader of a group: takes as many jobs as the engine has room for, runs their turns, and keeps
 * what it holds alive, the leases in Redis every second and the deliveries in SQS every two. With a slot
 * free it also looks for turns of its revision whose leader is gone, and takes them over.
 *
 * It knows nothing of other leaders. That a turn is run by one of them only is decided in Redis, with
 * every claim and every append.
 */
export class Leader {
  readonly #deps: LeaderDeps;
  readonly #slots: number;
  readonly #held = new Map<string, HeldTurn>();
  readonly #polling = new AbortController();
  readonly #failed = Promise.withResolvers<never>();
  #slotFreed: () => void = () => {};

  constructor(deps: LeaderDeps) {
    this.#deps = deps;
    this.#slots = deps.engine.describe().slots;
    this.#failed.promise.catch(() => {});
  }

  get running(): number {
    return this.#held.size;
  }

  /** Whether it takes new turns. */
  get isAccepting(): boolean {
    return !this.#polling.signal.aborted;
  }

  /** Takes no more jobs, and takes over no more turns; those that run go on. */
  retire(): void {
    this.#polling.abort();
    this.#slotFreed();
  }

  /** Takes jobs until it retires or drains. Rejects when the engine fails: the group is over then. */
  async run(): Promise<void> {
    const timers = [
      this.#every(renewalMs, "renewing leases", () => this.#renewLeases(), this.#onLateRenewal),
      this.#every(lookMs, "looking for lost turns", () => this.#takeOver()),
      this.#every(visibilitySeconds * 333, "renewing deliveries", () => this.#renewDeliveries()),
    ];
    this.#deps.engine.onFailure((error) => this.#fail(error));
    try {
      await Promise.race([this.#consume(), this.#failed.promise]);
      await Promise.race([this.#allEnded(), this.#failed.promise]);
    } finally {
      for (const timer of timers) clearInterval(timer);
    }
  }

  /** Takes no more jobs, waits for the running turns, and hands over what is left at the deadline. */
  async drain(deadlineMs: number): Promise<void> {
    this.retire();
    const deadline = setTimeout(() => {
      for (const { run } of this.#held.values()) run.stop("handedOver");
    }, deadlineMs);
    await this.#allEnded();
    clearTimeout(deadline);
  }

  /** Ends a turn as cancelled, if it runs here. */
  cancel(turnId: string): void {
    this.#held.get(turnId)?.run.cancel("user");
  }

  async #allEnded(): Promise<void> {
    await Promise.all([...this.#held.values()].map(({ ended }) => ended));
  }

  async #consume(): Promise<void> {
    const { signal } = this.#polling;
    while (!signal.aborted) {
      const free = this.#free();
      if (free <= 0) {
        await this.#room();
        continue;
      }
      const deliveries = await retry(() => this.#deps.queue.receive(free, signal), {
        worthRetrying: (error) => {
          this.#deps.logger.warn("no jobs can be had", { error: error as Error });
          return true;
        },
        signal,
      }).catch((error: unknown) => {
        if (!signal.aborted) throw error;
        return [];
      });
      this.#deps.meter?.jobsReceived.add(deliveries.length);
      for (const delivery of deliveries) this.#take(delivery);
    }
  }

  #take({ job, receipt, receiveCount, traceparent }: Delivery): void {
    const known = this.#held.get(job.turnId);
    if (known !== undefined) known.receipts.push(receipt);
    else this.#start(new TurnRun(job, traceparent), [receipt], receiveCount);
  }

  /** Turns that can begin: a slot is free, and the engine has room, which others may use too. */
  #free(): number {
    return Math.min(this.#slots - this.#held.size, this.#deps.engine.health().room);
  }

  /** Resolves when a turn has ended, or others may have left the engine. */
  async #room(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#slotFreed = resolve;
      if (this.#held.size < this.#slots) timer = setTimeout(resolve, roomLookMs);
    });
    clearTimeout(timer);
  }

  async #takeOver(): Promise<void> {
    const free = this.#free();
    if (free <= 0 || this.#polling.signal.aborted) return;
    // What is held here may be among them, where a renewal was late.
    const orphans = await this.#deps.stream.orphans(this.#deps.revision, this.#slots);
    const others = orphans.filter(({ turnId }) => !this.#held.has(turnId));
    if (this.#polling.signal.aborted) return;
    for (const job of others.slice(0, free)) this.#start(new TurnRun(job), [], 0, true);
  }

  #start(run: TurnRun, receipts: string[], receiveCount: number, isTakeover = false): void {
    const { job } = run;
    run.isTakeover = isTakeover;
    const held: HeldTurn = { run, receipts, ended: Promise.resolve() };
    this.#held.set(job.turnId, held);
    held.ended = runTurn(this.#deps, run)
      .then((outcome) => this.#settle(held, outcome, receiveCount))
      .catch((error: unknown) => this.#onFailure(held, error))
      .finally(() => {
        this.#held.delete(job.turnId);
        this.#slotFreed();
      });
  }

  async #settle({ run, receipts }: HeldTurn, outcome: Outcome, receives: number): Promise<void> {
    const { logger, queue } = this.#deps;
    this.#deps.meter?.left[outcome].add();
    logger.info("turn left", { ...run.logKeys, outcome, epoch: run.epoch });
    switch (outcome) {
      case "finished":
        return queue.delete(receipts);
      case "held":
        // The leader that runs it may die; if it still lives after so many looks, the outbox's
        // sweep is net enough, and a duplicate should not end among the dead letters.
        if (receives >= mostReceivesOfDuplicate) return queue.delete(receipts);
        return queue.hide(receipts, Math.ceil(leaseMs / 1_000) + 1);
      case "lost":
        return;
      case "handedOver":
        return queue.hide(receipts, 0);
    }
  }

  async #onFailure({ run, receipts }: HeldTurn, error: unknown): Promise<void> {
    const { logger, queue, engine } = this.#deps;
    this.#deps.meter?.left.brokenOff.add();
    logger.error("turn broke off", { ...run.logKeys, error: error as Error });
    if (engine.health().state === "failed") this.#fail(error as Error);
    await queue.hide(receipts, 0).catch(() => {});
  }

  #fail(error: Error): void {
    // What this leader gives back now is not for itself.
    this.#polling.abort();
    this.#failed.reject(error);
  }

  #claimed() {
    return [...this.#held.values()].flatMap(({ run }) =>
      run.epoch === undefined ? [] : [{ run, job: run.job, epoch: run.epoch }],
    );
  }

  readonly #onLateRenewal = (): void => {
    this.#deps.meter?.renewals.late.add(this.#claimed().length);
  };

  async #renewLeases(): Promise<void> {
    const { stream, abandonMs, meter } = this.#deps;
    const claimed = this.#claimed();
    if (claimed.length === 0) return;
    const results = await stream.renewAll(claimed, leaseMs, abandonMs).catch((error: unknown) => {
      meter?.renewals.failed.add(claimed.length);
      throw error;
    });
    await Promise.all(
      results.map(({ status, cancel, leaseUntilMs }, i) => {
        const run = claimed[i]?.run;
        meter?.renewals[status].add();
        if (status === "stale") run?.stop("lost");
        if (status === "behind") return run?.lane?.restore();
        if (status === "ok") run?.lane?.renewed(leaseUntilMs);
        if (cancel !== undefined) run?.cancel(cancel);
        return undefined;
      }),
    );
  }

  async #renewDeliveries(): Promise<void> {
    const receipts = [...this.#held.values()].flatMap((held) => held.receipts);
    await this.#deps.queue.hide(receipts, visibilitySeconds);
  }

  /** A failed renewal is tried again by the next one; what it costs is decided by lease and epoch. */
  #every(
    ms: number,
    name: string,
    task: () => Promise<void>,
    onLate: () => void = () => {},
  ): NodeJS.Timeout {
    let busy = false;
    return setInterval(() => {
      if (busy) return onLate();
      busy = true;
      task()
        .catch((error: unknown) =>
          this.#deps.logger.warn(`${name} failed`, { error: error as Error }),
        )
        .finally(() => {
          busy = false;
        });
    }, ms);
  }
}
