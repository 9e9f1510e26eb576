import type { Logger } from "@aws-lambda-powertools/logger";
import { retry } from "./backoff.ts";
import { type Delivery, type JobQueue, visibilitySeconds } from "./job-queue.ts";
import { leaseMs, type Outcome, runTurn, type TurnDeps, TurnRun } from "./turn-run.ts";

/**
 * The leader of a group: takes as many jobs as the engine has free slots, runs their turns, and keeps
 * what it holds alive, the leases in Redis every second and the deliveries in SQS every two.
 *
 * It knows nothing of other leaders. That a turn is run by one of them only is decided in Redis, with
 * every claim and every append.
 */
export interface Leader {
  /** Takes jobs until it drains. Rejects when the engine fails: the group is over then. */
  run(): Promise<void>;
  /** Takes no more jobs, waits for the running turns, and hands over what is left at the deadline. */
  drain(deadlineMs: number): Promise<void>;
  /** Ends a turn as cancelled, if it runs here. */
  cancel(turnId: string): void;
  running(): number;
}

export interface LeaderDeps extends TurnDeps {
  queue: JobQueue;
  logger: Logger;
}

interface Held {
  run: TurnRun;
  /** Every delivery of the turn's job: an outbox may have sent it twice. */
  receipts: string[];
  ended: Promise<void>;
}

/** A duplicate of a job that another leader runs is dropped before it would count as undeliverable. */
const mostReceivesOfDuplicate = 4;

export function createLeader(deps: LeaderDeps): Leader {
  const { engine, queue, stream, logger } = deps;
  const slots = engine.describe().slots;
  const held = new Map<string, Held>();
  const polling = new AbortController();
  let slotFreed: () => void = () => {};
  let fail: (error: Error) => void = () => {};
  const failed = new Promise<never>((_, reject) => {
    fail = reject;
  });
  failed.catch(() => {});

  async function consume(): Promise<void> {
    while (!polling.signal.aborted) {
      const free = slots - held.size;
      if (free <= 0) {
        await new Promise<void>((resolve) => {
          slotFreed = resolve;
        });
        continue;
      }
      const deliveries = await retry(() => queue.receive(free, polling.signal), {
        worthRetrying: () => true,
        signal: polling.signal,
      }).catch((error: unknown) => {
        if (!polling.signal.aborted) throw error;
        return [];
      });
      for (const delivery of deliveries) take(delivery);
    }
  }

  function take(delivery: Delivery): void {
    const { job, receipt } = delivery;
    const known = held.get(job.turnId);
    if (known !== undefined) {
      known.receipts.push(receipt);
      return;
    }
    const run = new TurnRun(job);
    const entry: Held = { run, receipts: [receipt], ended: Promise.resolve() };
    held.set(job.turnId, entry);
    entry.ended = runTurn(deps, run)
      .then((outcome) => settle(entry, outcome, delivery.receiveCount))
      .catch((error: unknown) => onFailure(entry, error))
      .finally(() => {
        held.delete(job.turnId);
        slotFreed();
      });
  }

  async function settle(entry: Held, outcome: Outcome, receiveCount: number): Promise<void> {
    const { turnId, tenantId, correlationId } = entry.run.job;
    logger.info("turn left", { turnId, tenantId, correlationId, outcome, epoch: entry.run.epoch });
    switch (outcome) {
      case "finished":
        return queue.delete(entry.receipts);
      case "held":
        // The leader that runs it may die; if it still lives after so many looks, the outbox's
        // sweep is net enough, and a duplicate should not end among the dead letters.
        if (receiveCount >= mostReceivesOfDuplicate) return queue.delete(entry.receipts);
        return queue.hide(entry.receipts, Math.ceil(leaseMs / 1_000) + 1);
      case "lost":
        return;
      case "handedOver":
        return queue.hide(entry.receipts, 0);
    }
  }

  async function onFailure(entry: Held, error: unknown): Promise<void> {
    const { turnId, tenantId, correlationId } = entry.run.job;
    logger.error("turn broke off", { turnId, tenantId, correlationId, error: error as Error });
    await queue.hide(entry.receipts, 0).catch(() => {});
    if (engine.health().state === "failed") fail(error as Error);
  }

  async function renewLeases(): Promise<void> {
    const claimed = [...held.values()].flatMap(({ run }) =>
      run.epoch === undefined ? [] : [{ run, turnId: run.job.turnId, epoch: run.epoch }],
    );
    if (claimed.length === 0) return;
    const results = await stream.renewAll(claimed, leaseMs);
    results.forEach(({ status, cancel }, i) => {
      const run = claimed[i]?.run;
      if (status === "stale") run?.stop("lost");
      else if (cancel) run?.stop("cancelled");
    });
  }

  async function renewDeliveries(): Promise<void> {
    const receipts = [...held.values()].flatMap((entry) => entry.receipts);
    await queue.hide(receipts, visibilitySeconds);
  }

  /** A failed renewal is tried again by the next one; what it costs is decided by lease and epoch. */
  function every(ms: number, task: () => Promise<void>, name: string): NodeJS.Timeout {
    let busy = false;
    return setInterval(() => {
      if (busy) return;
      busy = true;
      task()
        .catch((error: unknown) => logger.warn(`${name} failed`, { error: error as Error }))
        .finally(() => {
          busy = false;
        });
    }, ms);
  }

  return {
    async run() {
      const timers = [
        every(leaseMs / 3, renewLeases, "renewing leases"),
        every((visibilitySeconds / 3) * 1_000, renewDeliveries, "renewing deliveries"),
      ];
      engine.onFailure(fail);
      try {
        await Promise.race([consume(), failed]);
        await Promise.race([Promise.all([...held.values()].map(({ ended }) => ended)), failed]);
      } finally {
        for (const timer of timers) clearInterval(timer);
      }
    },

    async drain(deadlineMs) {
      polling.abort();
      slotFreed();
      const all = () => Promise.all([...held.values()].map(({ ended }) => ended));
      const deadline = setTimeout(() => {
        for (const { run } of held.values()) run.stop("handedOver");
      }, deadlineMs);
      await all();
      clearTimeout(deadline);
    },

    cancel(turnId) {
      held.get(turnId)?.run.stop("cancelled");
    },

    running: () => held.size,
  };
}
