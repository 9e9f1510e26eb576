import type {
  ClusterCommand,
  Observed,
  ObservedLoad,
  ObservedMeasures,
  ObservedWeights,
} from "../../../events/cluster-port.ts";
import type { Random } from "../../simulation/random.ts";
import { type PlantedBugs, Violation } from "./world.ts";

/** How a revision turns out. */
export interface Nature {
  /** From its start until a group takes turns; undefined: never. */
  formMs: number | undefined;
  /** Until there are machines; undefined: never. */
  capacityMs: number | undefined;
  errorRate: number;
  firstTokenMs: number;
}

interface Group {
  groupId: string;
  revision: string;
  exists: boolean;
  isDraining: boolean;
  startsAt: number;
  epoch: number;
  running: Turn[];
  /** It was killed: silent until it starts again. */
  heartbeatAt: number | undefined;
}

interface Turn {
  revision: string;
  askedAt: number;
  endsAt: number;
  ended?: { at: number; isError: boolean; firstTokenMs: number };
}

const slots = 4;
const turnMs = 6_000;
const restartMs = 2_000;

/** The cluster, its groups, the routing and the turns of one model, on virtual time. */
export class VirtualCluster {
  readonly groups = new Map<string, Group>();
  readonly turns: Turn[] = [];
  readonly capacity = new Map<string, { asked: number; basis: number; changedAt: number }>();
  weights: ObservedWeights | undefined;
  lastKillAt = -1e9;
  wasEdited = false;
  now = 0;
  readonly #waiting: Turn[] = [];
  readonly #natures: Record<string, Nature>;
  readonly #random: Random;
  readonly #bugs: PlantedBugs;

  constructor(natures: Record<string, Nature>, random: Random, bugs: PlantedBugs) {
    this.#natures = natures;
    this.#random = random;
    this.#bugs = bugs;
  }

  do(command: ClusterCommand): void {
    switch (command.type) {
      case "EnsureCapacity": {
        const { revision, groups, basis } = command;
        const there = this.capacity.get(revision);
        if (there !== undefined && basis < there.basis) return;
        const changedAt = there !== undefined && there.asked >= groups ? there.changedAt : this.now;
        this.capacity.set(revision, { asked: groups, basis, changedAt });
        return;
      }
      case "CreateGroup": {
        if (this.groups.get(command.groupId)?.exists) return;
        this.start(command.groupId, command.revision);
        return;
      }
      case "DrainGroup": {
        const group = this.groups.get(command.groupId);
        if (group !== undefined) group.isDraining = true;
        return;
      }
      case "DeleteGroup": {
        const group = this.groups.get(command.groupId);
        if (group === undefined || !group.isDraining || this.#runningOf(group) > 0) return;
        if (group.running.length > 0) {
          throw new Violation(
            `${group.groupId} is killed with ${group.running.length} turns on it`,
          );
        }
        this.groups.delete(command.groupId);
        return;
      }
      case "SetWeights": {
        const { weights, version } = command;
        const isOld = version < (this.weights?.version ?? 0);
        if (isOld && !this.#bugs.unfencedWeights) return;
        this.weights = { weights, version, setAt: this.now };
      }
    }
  }

  start(groupId: string, revision: string): void {
    const before = this.groups.get(groupId);
    this.groups.set(groupId, {
      ...{ groupId, revision, exists: true, isDraining: before?.isDraining ?? false },
      startsAt: this.now + (this.#natures[revision]?.formMs ?? Number.POSITIVE_INFINITY),
      epoch: this.now + 1,
      running: [],
      heartbeatAt: before?.heartbeatAt,
    });
  }

  /** Its turns are taken over; the cluster starts it again. */
  kill(groupId: string): void {
    const group = this.groups.get(groupId);
    if (group === undefined) return;
    this.lastKillAt = this.now;
    this.#waiting.push(...group.running);
    this.start(groupId, group.revision);
    const again = this.groups.get(groupId);
    if (again !== undefined) again.startsAt += restartMs;
  }

  /** By hand, as if nobody else cared for it. */
  removeByHand(groupId: string): void {
    const group = this.groups.get(groupId);
    if (group === undefined) return;
    this.lastKillAt = this.now;
    this.#waiting.push(...group.running);
    this.groups.delete(groupId);
  }

  takesTurns = (group: Group): boolean =>
    group.startsAt <= this.now && !group.isDraining && this.#hasMachines(group);

  #hasMachines({ revision, groupId }: Group): boolean {
    const there = this.there(revision);
    const index = [...this.groups.values()]
      .filter((group) => group.revision === revision)
      .findIndex((group) => group.groupId === groupId);
    return index < there;
  }

  /** By its heartbeat. */
  #runningOf({ running }: Group): number {
    return this.#bugs.overlookTurns ? 0 : running.length;
  }

  there(revision: string): number {
    const { capacityMs } = this.#natures[revision] ?? {};
    const asked = this.capacity.get(revision);
    if (asked === undefined || capacityMs === undefined) return 0;
    return this.now >= asked.changedAt + capacityMs ? asked.asked : Math.max(0, asked.asked - 1);
  }

  /** Asks a turn of a revision that the weights give, or did a moment ago. */
  pick(): string | undefined {
    let left = this.#random.between(0, 100);
    for (const { revision, percent } of this.weights?.weights ?? []) {
      left -= percent;
      if (left < 0) return revision;
    }
    return undefined;
  }

  ask(revision: string): void {
    const turn: Turn = { revision, askedAt: this.now, endsAt: Number.POSITIVE_INFINITY };
    this.turns.push(turn);
    this.#waiting.push(turn);
  }

  step(ms: number): void {
    this.now += ms;
    for (const group of this.groups.values()) {
      const isUp = group.startsAt <= this.now && this.#hasMachines(group);
      if (isUp) group.heartbeatAt = this.now;
      for (const turn of group.running) if (turn.endsAt <= this.now) this.#end(turn);
      group.running = group.running.filter(({ ended }) => ended === undefined);
      while (this.takesTurns(group) && group.running.length < slots) {
        const next = this.#waiting.findIndex(({ revision }) => revision === group.revision);
        const [turn] = next === -1 ? [] : this.#waiting.splice(next, 1);
        if (turn === undefined) break;
        turn.endsAt = this.now + this.#random.between(turnMs / 2, turnMs);
        group.running.push(turn);
      }
    }
  }

  #end(turn: Turn): void {
    const { errorRate = 0, firstTokenMs = 0 } = this.#natures[turn.revision] ?? {};
    const isError = this.#random.chance(errorRate);
    turn.ended = { at: this.now, isError, firstTokenMs };
  }

  observe(revisions: readonly string[], since: number | undefined): Observed {
    const bugs = this.#bugs;
    const each = <T>(of: (revision: string) => T) =>
      Object.fromEntries(revisions.map((revision) => [revision, of(revision)]));
    return {
      at: this.now,
      groups: [...this.groups.values()].map((group) => ({
        ...{ groupId: group.groupId, revision: group.revision, exists: group.exists },
        isDraining: group.isDraining,
        failure: undefined,
        heartbeat:
          group.heartbeatAt === undefined && !bugs.countForming
            ? undefined
            : {
                at: bugs.countForming ? this.now : (group.heartbeatAt ?? 0),
                epoch: group.epoch,
                ranks: 2,
                slots,
                running: this.#runningOf(group),
                isAccepting: bugs.countForming || this.takesTurns(group),
              },
      })),
      capacity: each((revision) => ({
        asked: this.capacity.get(revision)?.asked ?? 0,
        there: this.there(revision),
        failure: undefined,
      })),
      load: each((revision) => this.#load(revision)),
      measured: since === undefined ? {} : each((revision) => this.#measured(revision, since)),
      weights: this.weights,
    };
  }

  #load(revision: string): ObservedLoad {
    const own = this.turns.filter((turn) => turn.revision === revision);
    const waiting = this.#waiting.filter((turn) => turn.revision === revision);
    return {
      openTurns: own.filter(({ ended }) => ended === undefined).length,
      waitingTurns: waiting.length,
      queueWaitMs: Math.max(0, ...waiting.map(({ askedAt }) => this.now - askedAt)),
      lastTurnAt:
        own.length === 0
          ? undefined
          : Math.max(...own.map(({ askedAt, ended }) => ended?.at ?? askedAt)),
    };
  }

  #measured(revision: string, since: number): ObservedMeasures {
    const ended = this.turns.flatMap((turn) =>
      turn.revision === revision && turn.askedAt >= since ? (turn.ended ?? []) : [],
    );
    const latencies = ended.map(({ firstTokenMs }) => firstTokenMs);
    const errors = ended.filter(({ isError }) => isError).length;
    const firstTokenP95Ms = latencies.length === 0 ? null : Math.max(...latencies);
    const isBlind = this.#bugs.blindGates === true;
    return {
      since,
      turns: ended.length,
      errors: isBlind ? 0 : errors,
      firstTokenP95Ms: isBlind ? null : firstTokenP95Ms,
      interTokenP95Ms: null,
    };
  }
}
