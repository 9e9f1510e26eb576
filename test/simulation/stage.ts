import { ControlPlane } from "./control-plane.ts";
import { type Answer, drawAnswer } from "./engine.ts";
import { Gateway } from "./gateway.ts";
import { type LeaderDeps, SimulatedLeader } from "./leader.ts";
import { JobQueue, ReportQueue } from "./queues.ts";
import { Reader } from "./reader.ts";
import { SimulatedRedis } from "./redis.ts";
import { SimulatedRelay } from "./relay.ts";
import { Witness } from "./witness.ts";
import { Violation, type World } from "./world.ts";

/** All the parts of one schedule, and what can be done to them. */
export class Stage {
  readonly world: World;
  readonly redis: SimulatedRedis;
  readonly witness: Witness;
  readonly jobs: JobQueue;
  readonly reports: ReportQueue;
  readonly controlPlane: ControlPlane;
  readonly gateway: Gateway;
  readonly leaders: SimulatedLeader[] = [];
  readonly relays: SimulatedRelay[] = [];
  readonly readers: Reader[] = [];
  readonly dependsOnLeader: boolean;
  readonly #answers = new Map<string, Answer>();
  readonly #abandonMs: number;
  /** Faults that go on for a while: a pause, a Redis that is away. */
  faultsUnderWay = 0;
  #lastOpen = new Set<string>();

  constructor(world: World, dependsOnLeader: boolean) {
    this.world = world;
    this.dependsOnLeader = dependsOnLeader;
    this.#abandonMs = world.random.between(5_000, 60_000);
    this.redis = new SimulatedRedis(world);
    this.witness = new Witness(this.redis.streams);
    this.jobs = new JobQueue(world);
    const { redis, jobs, witness } = this;
    this.controlPlane = new ControlPlane({
      ...{ world, redis, jobs, witness },
      gateway: () => this.gateway,
    });
    this.reports = new ReportQueue(world, (report) => this.controlPlane.onReport(report));
    this.gateway = new Gateway(world, {
      frame: (connectionId, frame) => this.controlPlane.onFrame(connectionId, frame),
      disconnect: (connectionId) => this.controlPlane.onDisconnect(connectionId),
    });
  }

  startLeader(): void {
    const { world, redis, witness, jobs, reports } = this;
    const number = this.leaders.length + 1;
    const deps: LeaderDeps = {
      ...{ world, redis, witness, jobs, reports, abandonMs: this.#abandonMs },
      answerOf: (turnId) => this.#answerOf(turnId),
    };
    this.leaders.push(new SimulatedLeader(`leader ${number}`, number, deps));
  }

  startRelay(): void {
    const { world, redis, gateway } = this;
    this.relays.push(
      new SimulatedRelay(`relay ${this.relays.length + 1}`, { world, redis, gateway }),
    );
  }

  /** A reader asks, or follows what was asked. */
  startReader(turnId?: string): void {
    const { world, gateway, witness } = this;
    const name = `reader ${this.readers.length + 1}`;
    this.readers.push(new Reader(name, { world, gateway, witness }, turnId));
  }

  #answerOf(turnId: string): Answer {
    const answer = this.#answers.get(turnId) ?? drawAnswer(this.world.random, this.dependsOnLeader);
    this.#answers.set(turnId, answer);
    return answer;
  }

  /** Given twice, an answer may come out differently: by its leader's words, or cut by a cancel. */
  get answersMayDiffer(): boolean {
    return this.dependsOnLeader || this.readers.some(({ hasCancelled }) => hasCancelled);
  }

  /** All that was asked has been answered and read. */
  get isRead(): boolean {
    const { controlPlane, readers, witness } = this;
    return (
      readers.every(({ hasEnded, hasLeft }) => hasEnded || hasLeft) &&
      controlPlane.turnIds.every((turnId) => witness.endingOf(turnId) !== undefined)
    );
  }

  /** What is not yet as it shall be in the end; nothing when all is done. */
  leftovers(): string[] {
    const { controlPlane, readers, jobs, reports, redis, leaders } = this;
    const running = controlPlane.turnIds.filter(
      (turnId) => this.witness.endingOf(turnId) === undefined,
    );
    const reading = readers.filter((reader) => !reader.hasEnded && !reader.hasLeft);
    return [
      ...running.map((turnId) => `${turnId} has no end`),
      ...reading.map(({ name, turn }) => `${name} still waits for ${turn.turnId}`),
      ...(jobs.size > 0 ? [`${jobs.size} jobs in the queue`] : []),
      ...(reports.size > 0 ? [`${reports.size} reports in the queue`] : []),
      ...(redis.streams.leases > 0 ? [`${redis.streams.leases} leases`] : []),
      ...this.#watchers(),
      ...leaders.flatMap(({ held, process }) =>
        process.alive && held > 0 ? [`${process.name} holds ${held} turns`] : [],
      ),
    ];
  }

  /** All pages are closed. */
  closeReaders(): void {
    this.#lastOpen = new Set(this.gateway.open);
    for (const reader of this.readers) reader.leave();
  }

  /**
   * Of the connections that were open in the end nothing may be left. An entry of one that closed while
   * things went wrong expires after a day.
   */
  #watchers(): string[] {
    return [...this.redis.keys.watchers].flatMap(([turnId, ids]) =>
      [...ids.keys()]
        .filter((id) => this.#lastOpen.has(id))
        .map((id) => `${turnId} is watched by ${id}`),
    );
  }

  /** What every reader has in the end is what is recorded. */
  checkTexts(): void {
    for (const { name, text, turn, hasLeft } of this.readers) {
      const recorded = this.witness.endingOf(turn.turnId ?? "");
      if (!hasLeft && text !== recorded) {
        throw new Violation(
          `${name} ends with "${text}", and the record of ${turn.turnId} is "${recorded}"`,
        );
      }
    }
  }
}
