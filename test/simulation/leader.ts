import { leaseMs, lookMs, renewalMs } from "../../dataplane/lease.ts";
import type { CancelReason, Claim, StreamToken } from "../../dataplane/token-stream.ts";
import type { Job, Report } from "../../events/jobs.ts";
import { cancelChannel, type StreamEnd } from "../../events/redis-keys.ts";
import { retried, tried } from "./calls.ts";
import { type Answer, sayToken } from "./engine.ts";
import { Latch, Process, type Task } from "./process.ts";
import type { Delivery, JobQueue, Receipt, ReportQueue } from "./queues.ts";
import type { SimulatedRedis } from "./redis.ts";
import { RedisConnection } from "./redis-connection.ts";
import { textOf, type Witness } from "./witness.ts";
import type { World } from "./world.ts";

export interface LeaderDeps {
  world: World;
  redis: SimulatedRedis;
  witness: Witness;
  jobs: JobQueue;
  reports: ReportQueue;
  answerOf: (turnId: string) => Answer;
  abandonMs: number;
}

type Claimed = Extract<Claim, { status: "claimed" }>;
type Ended = "finished" | "held" | "lost" | "handedOver";

/** A turn in a leader's hands, with its way into the stream. */
interface Run {
  job: Job;
  receipts: Receipt[];
  epoch: number | undefined;
  startedAt: number;
  /** As the latest claim or renewal said. */
  leaseUntilMs: number;
  /** What is known to be in the stream. */
  tokens: StreamToken[];
  pending: { text: string; token: number }[];
  flushing: boolean;
  closed: boolean;
  stop: "cancelled" | "lost" | "handedOver" | undefined;
  cancelReason: CancelReason | undefined;
}

export const revision = "r1";
const slots = 2;
const visibilityMs = 6_000;
const mostReceivesOfDuplicate = 4;
const mostBarrenClaims = 10;

/**
 * A leader: dataplane/leader.ts, turn-run.ts and token-writer.ts, step by step, without an engine. Each
 * incarnation has a name and a voice of its own.
 */
export class SimulatedLeader {
  readonly process: Process;
  readonly #deps: LeaderDeps;
  readonly #redis: RedisConnection;
  readonly #voice: number;
  readonly #held = new Map<string, Run>();
  #takesJobs = true;
  #receiving = false;

  constructor(name: string, voice: number, deps: LeaderDeps) {
    const { world, redis } = deps;
    this.#deps = deps;
    this.#voice = voice;
    this.process = new Process(name, world.time);
    this.#redis = new RedisConnection(world, redis, this.process);
    const subscriber = new RedisConnection(world, redis, this.process, {
      onMessage: (_, message) => this.#cancel((message as { turnId: string }).turnId),
    });
    this.process.spawn(subscriber.subscribe(cancelChannel));
    this.#renewLeasesLater();
    this.process.every(lookMs, () => this.#takeOver());
    this.process.every(lookMs, () => this.#receive());
    this.process.every(visibilityMs / 3, () => this.#renewDeliveries());
  }

  get held(): number {
    return this.#held.size;
  }

  /** Takes no more jobs, hands over what runs, and ends. */
  *drain(): Task {
    this.#takesJobs = false;
    for (const run of this.#held.values()) this.#stop(run, "handedOver");
    while (this.#held.size > 0 || this.#receiving) yield* this.process.sleep(10);
    this.process.die();
  }

  #log(what: string): void {
    this.#deps.world.log?.(this.process.name, what);
  }

  #stop(run: Run, reason: Run["stop"]): void {
    if (run.stop === undefined || reason === "lost") run.stop = reason;
  }

  #cancel(turnId: string, reason: CancelReason = "user"): void {
    const run = this.#held.get(turnId);
    if (run === undefined) return;
    run.cancelReason ??= reason;
    this.#stop(run, "cancelled");
  }

  *#receive(): Task {
    const { world, jobs } = this.#deps;
    const free = slots - this.#held.size;
    if (free <= 0 || !this.#takesJobs || jobs.size === 0) return;
    this.#receiving = true;
    const attempt = yield* tried(world, this.process, () => jobs.receive(free, visibilityMs));
    this.#receiving = false;
    if (attempt === "failed") return;
    for (const delivery of attempt.reply) this.#take(delivery);
  }

  #take({ job, receipt, receiveCount }: Delivery): void {
    const known = this.#held.get(job.turnId);
    if (known === undefined) this.#start(job, [receipt], receiveCount);
    else known.receipts.push(receipt);
  }

  *#takeOver(): Task {
    if (slots - this.#held.size <= 0 || !this.#takesJobs) return;
    const { streams } = this.#deps.redis;
    const orphans = yield* this.#redis.call(() => streams.orphans(revision, slots));
    if (!this.#takesJobs) return;
    const others = orphans.filter(({ turnId }) => !this.#held.has(turnId));
    for (const job of others.slice(0, Math.max(0, slots - this.#held.size))) {
      this.#start(job, [], 0);
    }
  }

  #start(job: Job, receipts: Receipt[], receiveCount: number): void {
    const run: Run = {
      ...{
        job,
        receipts,
        epoch: undefined,
        startedAt: 0,
        leaseUntilMs: 0,
        tokens: [],
        pending: [],
      },
      ...{ flushing: false, closed: true, stop: undefined, cancelReason: undefined },
    };
    this.#held.set(job.turnId, run);
    this.process.spawn(this.#runAndSettle(run, receiveCount));
  }

  *#runAndSettle(run: Run, receives: number): Task {
    const { world, jobs } = this.#deps;
    const outcome = yield* this.#run(run);
    run.closed = true;
    this.#log(`leaves ${run.job.turnId}: ${outcome}`);
    const { receipts } = run;
    const ask = (execute: () => void) => retried(world, this.process, execute);
    if (outcome === "finished") {
      yield* ask(() => jobs.delete(receipts));
    } else if (outcome === "held") {
      if (receives >= mostReceivesOfDuplicate) yield* ask(() => jobs.delete(receipts));
      else yield* ask(() => jobs.hide(receipts, Math.ceil(leaseMs / 1_000 + 1) * 1_000));
    } else if (outcome === "handedOver") {
      yield* ask(() => jobs.hide(receipts, 0));
    }
    this.#held.delete(run.job.turnId);
  }

  *#run(run: Run): Task<Ended> {
    const { redis, witness } = this.#deps;
    const { job } = run;
    const { turnId } = job;
    const claimant = { leaderId: this.process.name, groupId: this.process.name, leaseMs };
    const claim = yield* this.#redis.call(() =>
      witness.write(turnId, Number.POSITIVE_INFINITY, () => redis.streams.claim(job, claimant)),
    );
    this.#log(`claims ${turnId}: ${describeClaim(claim)}`);
    if (claim.status === "held") return "held";
    if (claim.status === "sealed") {
      yield* this.#report(terminalReport(run, claim, textOf(claim.tokens), claim.end));
      return "finished";
    }
    Object.assign(run, { epoch: claim.epoch, closed: false });
    run.startedAt = claim.startedAt;
    run.leaseUntilMs = claim.leaseUntilMs;
    run.tokens = [...claim.tokens];
    if (claim.cancel !== undefined) this.#cancel(turnId, claim.cancel);
    const started = new Latch();
    this.process.spawn(this.#reportStarted(run, claim, started));
    return yield* this.#generate(run, claim, started);
  }

  *#reportStarted(run: Run, claim: Claimed, started: Latch): Task {
    yield* this.#report({
      ...{ type: "started", ...reportBase(run, claim) },
      emittedTokens: claim.tokens.length,
    });
    started.open();
  }

  *#generate(run: Run, claim: Claimed, started: Latch): Task<Ended> {
    const { job } = run;
    const answer = this.#deps.answerOf(job.turnId);
    let finishReason: StreamEnd["finishReason"] = "failed";
    if (claim.barrenClaims <= mostBarrenClaims) {
      finishReason = "stop";
      for (let seq = claim.tokens.length + 1; ; seq++) {
        const token = sayToken(answer, seq, this.#voice);
        if (token === undefined) break;
        yield* this.process.sleep(answer.msPerToken * this.#deps.world.random.between(0.5, 1.5));
        if (run.stop !== undefined) {
          finishReason = "cancelled";
          break;
        }
        run.pending.push(token);
        if (!run.flushing) this.process.spawn(this.#flush(run));
      }
    }
    while (!run.closed && run.pending.length > 0) yield* this.process.sleep(2);
    if (run.stop === "lost") return "lost";
    if (run.stop === "handedOver") {
      yield* this.#renew(run, 0);
      return "handedOver";
    }
    const end = endOf(run, claim, finishReason);
    if ((yield* this.#seal(run, claim.epoch, end)) === "stale") return "lost";
    yield* started.passed();
    yield* this.#report(terminalReport(run, claim, textOf(run.tokens), end));
    return "finished";
  }

  /** Writes what waits, one call at a time. */
  *#flush(run: Run): Task {
    run.flushing = true;
    const { turnId } = run.job;
    const epoch = run.epoch ?? 0;
    while (run.pending.length > 0) {
      const written = run.pending.slice();
      const from = run.tokens.length + 1;
      const result = yield* this.#redis.call(() =>
        this.#deps.witness.write(turnId, epoch, () =>
          this.#deps.redis.streams.append(turnId, epoch, from, written),
        ),
      );
      const last = from + written.length - 1;
      this.#log(`appends ${from}–${last} of ${turnId}, epoch ${epoch}: ${result}`);
      if (run.closed) break;
      if (result === "behind") {
        yield* this.#restore(run);
      } else if (result === "ok" || result === "duplicate") {
        for (const token of written) run.tokens.push({ ...token, epoch });
        run.pending.splice(0, written.length);
      } else {
        this.#lose(run);
      }
    }
    run.flushing = false;
  }

  *#restore(run: Run): Task {
    const { redis, witness } = this.#deps;
    if (run.closed) return;
    const { job, epoch = 0, startedAt, leaseUntilMs } = run;
    const [leaderId, tokens] = [this.process.name, [...run.tokens]];
    const record = { job, epoch, leaderId, groupId: leaderId, startedAt, leaseUntilMs, tokens };
    const result = yield* this.#redis.call(() =>
      witness.write(job.turnId, epoch, () => redis.streams.restore(record, leaseMs)),
    );
    this.#log(`restores ${tokens.length} tokens of ${job.turnId}: ${result}`);
    if (result !== "ok") this.#lose(run);
  }

  #lose(run: Run): void {
    run.closed = true;
    run.pending.length = 0;
    this.#stop(run, "lost");
  }

  *#seal(run: Run, epoch: number, end: StreamEnd): Task<"sealed" | "stale"> {
    const { redis, witness } = this.#deps;
    for (;;) {
      const result = yield* this.#redis.call(() =>
        witness.write(run.job.turnId, epoch, () => redis.streams.seal(run.job, epoch, end)),
      );
      this.#log(`seals ${run.job.turnId} at ${end.lastSeq}, epoch ${epoch}: ${result}`);
      if (result !== "behind") return result === "stale" ? "stale" : "sealed";
      yield* this.#restore(run);
      if (run.stop === "lost") return "stale";
    }
  }

  #renewLeasesLater(): void {
    this.process.after(renewalMs, () => {
      // One pipeline in one round trip: the calls leave together.
      for (const run of this.#held.values()) {
        if (run.epoch !== undefined) this.process.spawn(this.#renewAndHeed(run));
      }
      this.#renewLeasesLater();
    });
  }

  *#renewAndHeed(run: Run): Task {
    const { status, cancel, leaseUntilMs } = yield* this.#renew(run, leaseMs);
    if (status !== "ok") this.#log(`renews ${run.job.turnId}: ${status}`);
    if (status === "stale") this.#stop(run, "lost");
    else if (status === "behind") yield* this.#restore(run);
    else {
      run.leaseUntilMs = leaseUntilMs;
      if (cancel !== undefined) this.#cancel(run.job.turnId, cancel);
    }
  }

  #renew(run: Run, ms: number) {
    const { redis, witness, abandonMs } = this.#deps;
    const { job, epoch = 0 } = run;
    return this.#redis.call(() =>
      witness.write(job.turnId, epoch, () => redis.streams.renew(job, epoch, ms, abandonMs)),
    );
  }

  *#renewDeliveries(): Task {
    const receipts = [...this.#held.values()].flatMap((run) => run.receipts);
    if (receipts.length === 0) return;
    const { world, jobs } = this.#deps;
    yield* tried(world, this.process, () => jobs.hide(receipts, visibilityMs));
  }

  *#report(report: Report): Task {
    const { world, reports } = this.#deps;
    yield* retried(world, this.process, () => reports.send(report));
    this.#log(`reports ${report.turnId} ${report.type}, epoch ${report.epoch}`);
  }
}

function describeClaim(claim: Claim): string {
  if (claim.status === "held") return "held";
  return `${claim.status}, epoch ${claim.epoch}, ${claim.tokens.length} tokens`;
}

function endOf(run: Run, claim: Claimed, finishReason: StreamEnd["finishReason"]): StreamEnd {
  const lastSeq = run.tokens.length;
  const end: StreamEnd = {
    lastSeq,
    epoch: lastSeq > claim.tokens.length ? claim.epoch : (claim.tokens.at(-1)?.epoch ?? 0),
    finishReason,
    usage: { promptTokens: 1, completionTokens: lastSeq },
    timings: { queuedMs: 0, firstTokenMs: 0, totalMs: 0 },
  };
  if (finishReason !== "failed") return end;
  return { ...end, error: { code: "undeliverable", message: "Too many leaders have died." } };
}

type Runner = { epoch: number; leaderId: string; groupId: string };

function reportBase(run: Run, { epoch, leaderId, groupId }: Runner) {
  const { turnId, correlationId } = run.job;
  return { version: 1, turnId, groupId, leaderId, epoch, at: 0, correlationId } as const;
}

function terminalReport(
  run: Run,
  by: Runner & { startedAt: number },
  text: string,
  end: StreamEnd,
): Report {
  const { usage, timings } = end;
  const ending = { ...reportBase(run, by), startedAt: by.startedAt, text, usage, timings };
  switch (end.finishReason) {
    case "stop":
    case "length":
      return { type: "completed", ...ending, finishReason: end.finishReason };
    case "cancelled":
      return { type: "cancelled", ...ending, reason: run.cancelReason ?? "user" };
    case "failed":
      return { type: "failed", ...ending, code: "undeliverable", message: "Too many died." };
  }
}
