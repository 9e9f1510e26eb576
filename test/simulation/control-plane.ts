import { fold } from "../../events/decider.ts";
import type { ChatFrame, ClientFrame, ServerFrame } from "../../events/frames.ts";
import type { Job, Report } from "../../events/jobs.ts";
import {
  cancelChannel,
  relayShardOf,
  shardChannel,
  type WatcherProgress,
} from "../../events/redis-keys.ts";
import { isTerminal, type TurnCommand, type TurnState, turn } from "../../events/turn.ts";
import type { TurnEvent } from "../../events/turn-events.ts";
import { framesFromLog, tellsTheRecord } from "../../functions/lib/turns/replay.ts";
import { commandOf } from "../../functions/report.ts";
import type { Gateway } from "./gateway.ts";
import { revision } from "./leader.ts";
import { Process, type Task } from "./process.ts";
import type { JobQueue } from "./queues.ts";
import type { SimulatedRedis } from "./redis.ts";
import type { Witness } from "./witness.ts";
import { travelMs, type World } from "./world.ts";

interface ControlPlaneDeps {
  world: World;
  redis: SimulatedRedis;
  jobs: JobQueue;
  witness: Witness;
  gateway: () => Gateway;
}

const sampling = {
  ...{ maxTokens: 100, temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 },
  ...{ stop: [], seed: 1 },
};
const headStartMs = 1_000;
const sweepMs = 15_000;
/** Shorter than the real one, so that schedules are: nothing depends on it but how long a turn waits. */
const sentMs = 40_000;
const tenantId = "t";

/**
 * The event log, and the functions around it: chat, resume, cancel, disconnect, dispatch, sweep, report.
 * An append to the log is atomic and never lost. A function dies between any two of its steps, or at the
 * first that finds Redis away; nobody but a queue calls it again.
 */
export class ControlPlane {
  readonly #deps: ControlPlaneDeps;
  /** By the client's name for the request, which is different every time. */
  readonly #turnIds = new Map<string, string>();
  readonly #log = new Map<string, TurnEvent[]>();

  constructor(deps: ControlPlaneDeps) {
    this.#deps = deps;
    const sweeper = new Process("sweep", deps.world.time);
    const sweepLater = () => {
      this.#sweep();
      sweeper.after(sweepMs, sweepLater);
    };
    sweeper.after(sweepMs, sweepLater);
  }

  get turnIds(): string[] {
    return [...this.#log.keys()];
  }

  state(turnId: string): TurnState {
    return fold(turn, this.#events(turnId));
  }

  onFrame(connectionId: string, frame: ClientFrame): void {
    const { world } = this.#deps;
    world.log?.(connectionId, `asks ${describeFrame(frame)}`);
    const name = `${frame.action} for ${connectionId}`;
    const handler = new Process(name, world.time);
    if (frame.action === "chat") handler.spawn(this.#chat(handler, connectionId, frame));
    else if (frame.action === "cancel") handler.spawn(this.#cancel(handler, frame.turnId));
    else handler.spawn(this.#resume(handler, connectionId, frame));
  }

  onDisconnect(connectionId: string): void {
    const handler = new Process("disconnect", this.#deps.world.time);
    handler.spawn(this.#disconnect(handler, connectionId));
  }

  onReport(report: Report): void {
    this.#execute(report.turnId, commandOf(report));
  }

  /** The queue has lost its jobs and says so: none is taken for a waiting one. */
  sweepAll(): void {
    this.#deps.redis.keys.sent.clear();
    this.#sweep();
  }

  #turnIdOf(requestId: string): string {
    const turnId = this.#turnIds.get(requestId) ?? `turn-${this.#turnIds.size + 1}`;
    this.#turnIds.set(requestId, turnId);
    return turnId;
  }

  #events(turnId: string): TurnEvent[] {
    return this.#log.get(turnId) ?? [];
  }

  #execute(turnId: string, command: TurnCommand): TurnEvent[] {
    const events = turn.decide(command, this.state(turnId));
    this.#log.set(turnId, [...this.#events(turnId), ...events]);
    for (const event of events) {
      this.#deps.world.log?.("the log", `${turnId}: ${event.type}`);
      if (event.type === "TurnRequested") this.#dispatch(turnId);
      if ("text" in event) this.#deps.witness.noteEnding(turnId, event.text);
    }
    return events;
  }

  /** One step of a function: it may be its last. */
  *#step<T>(handler: Process, execute: () => T, needs: "redis" | "log" = "redis"): Task<T> {
    const { world, redis } = this.#deps;
    yield* handler.sleep(travelMs(world));
    const isAway = needs === "redis" && !redis.isUp;
    if (isAway || world.random.chance(world.weather.deadFunction)) {
      world.log?.(handler.name, "dies");
      handler.die();
      yield () => {};
    }
    return execute();
  }

  *#chat(handler: Process, connectionId: string, { requestId }: ChatFrame): Task {
    const turnId = this.#turnIdOf(requestId);
    const isKnown = (yield* this.#step(handler, () => this.state(turnId), "log")).status !== "none";
    const { time } = this.#deps.world;
    const request: TurnCommand = {
      type: "RequestTurn",
      priority: "interactive",
      ...{ at: Math.floor(time.now), turnId, conversationId: "c", tenantId },
      ...{ model: "m", revision, prompt: "p", sampling, correlationId: "x" },
    };
    yield* this.#step(handler, () => this.#execute(turnId, request), "log");
    const state = this.state(turnId);
    const stream = isKnown && (yield* this.#step(handler, () => this.#presence(turnId)));
    if (stream && !tellsTheRecord(state, stream)) {
      yield* this.#answer(handler, connectionId, accepted(turnId, requestId));
      yield* this.#tellFromLog(handler, connectionId, turnId);
      return;
    }
    yield* this.#watch(handler, turnId, connectionId, { sent: 0, epoch: 0 });
    if (!isTerminal(state)) yield* this.#sendMissingJob(handler, turnId);
    yield* this.#answer(handler, connectionId, accepted(turnId, requestId));
  }

  *#resume(
    handler: Process,
    connectionId: string,
    { turnId, after, epoch }: { turnId: string; after: number; epoch: number },
  ): Task {
    const state = yield* this.#step(handler, () => this.state(turnId), "log");
    const stream = yield* this.#step(handler, () => this.#presence(turnId));
    if (!tellsTheRecord(state, stream)) {
      if (after > 0) yield* this.#answer(handler, connectionId, { type: "rewind", turnId, to: 0 });
      yield* this.#tellFromLog(handler, connectionId, turnId);
      return;
    }
    const sent = epoch === 0 ? Math.min(after, stream.lastSeq) : after;
    if (sent < after) {
      yield* this.#answer(handler, connectionId, { type: "rewind", turnId, to: sent });
    }
    yield* this.#watch(handler, turnId, connectionId, { sent, epoch });
  }

  *#cancel(handler: Process, turnId: string): Task {
    const command = { type: "RequestCancel", at: 0, turnId, tenantId, reason: "user" } as const;
    yield* this.#step(handler, () => this.#execute(turnId, command), "log");
    if (isTerminal(this.state(turnId))) return;
    const { redis } = this.#deps;
    yield* this.#step(handler, () => redis.streams.wishCancel(turnId, "user"));
    yield* this.#step(handler, () => redis.publish(cancelChannel, { turnId }));
  }

  *#disconnect(handler: Process, connectionId: string): Task {
    const { redis } = this.#deps;
    const turnIds = yield* this.#step(handler, () => [
      ...(redis.keys.connectionTurns.get(connectionId) ?? []),
    ]);
    yield* this.#step(handler, () => {
      for (const turnId of turnIds) {
        redis.removeWatcher(turnId, connectionId);
        redis.publish(shardChannel(relayShardOf(turnId)), { kind: "gone", connectionId });
      }
      redis.keys.connectionTurns.delete(connectionId);
    });
  }

  /** The outbox. It follows the table's stream, which is read until it succeeds. */
  #dispatch(turnId: string): void {
    const { world } = this.#deps;
    const handler = new Process("dispatch", world.time);
    handler.after(headStartMs, () => handler.spawn(this.#sendMissingJob(handler, turnId)));
    world.time.after(2 * headStartMs, () => {
      if (!handler.alive) this.#dispatch(turnId);
    });
  }

  #sweep(): void {
    for (const turnId of this.#log.keys()) {
      if (isTerminal(this.state(turnId))) continue;
      const handler = new Process("sweep", this.#deps.world.time);
      handler.spawn(this.#sendMissingJob(handler, turnId));
    }
  }

  *#sendMissingJob(handler: Process, turnId: string): Task {
    const { redis, jobs, world } = this.#deps;
    const isWaiting = yield* this.#step(handler, () => {
      const lease = redis.streams.turn(turnId)?.leaseUntilMs ?? 0;
      return (redis.keys.sent.get(turnId) ?? 0) <= redis.now && lease <= redis.now;
    });
    if (!isWaiting || isTerminal(this.state(turnId))) return;
    yield* this.#step(handler, () => jobs.send(jobOf(turnId)), "log");
    world.log?.(handler.name, `sends the job of ${turnId}`);
    yield* this.#step(handler, () => redis.keys.sent.set(turnId, redis.now + sentMs));
  }

  *#watch(handler: Process, turnId: string, connectionId: string, has: WatcherProgress): Task {
    const { redis } = this.#deps;
    yield* this.#step(handler, () => {
      redis.enterWatcher(turnId, connectionId, has);
      const message = { kind: "watch", turnId, connectionId, ...has };
      redis.publish(shardChannel(relayShardOf(turnId)), message);
    });
  }

  *#answer(handler: Process, connectionId: string, frame: ServerFrame): Task {
    const gateway = this.#deps.gateway();
    yield* this.#step(handler, () => gateway.post(connectionId, frame), "log");
  }

  *#tellFromLog(handler: Process, connectionId: string, turnId: string): Task {
    for (const frame of framesFromLog(this.#events(turnId))) {
      yield* this.#answer(handler, connectionId, frame);
    }
  }

  /** As streamPresence in functions/lib/turns/replay.ts. */
  #presence(turnId: string) {
    const stored = this.#deps.redis.streams.turn(turnId);
    const sealed = stored?.end !== undefined;
    const lastSeq = stored?.tokens.length ?? 0;
    return { exists: sealed || lastSeq > 0, sealed, lastSeq, epoch: stored?.epoch ?? 0 };
  }
}

const accepted = (turnId: string, requestId: string) =>
  ({ type: "accepted", requestId, turnId, conversationId: "c", model: "m", revision }) as const;

const jobOf = (turnId: string): Job => ({
  ...{ version: 1, turnId, tenantId, conversationId: "c", revision, sampling },
  ...{ messages: [{ role: "user", content: "p" }], requestedAt: 0, correlationId: "x" },
  priority: "interactive",
});

function describeFrame(frame: ClientFrame): string {
  if (frame.action === "chat") return "chat";
  if (frame.action === "cancel") return `cancel ${frame.turnId}`;
  return `resume ${frame.turnId} after ${frame.after} of epoch ${frame.epoch}`;
}
