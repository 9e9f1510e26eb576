import { fold } from "../../../events/decider.ts";
import { AxonError } from "../../../events/errors.ts";
import { type GroupCommand, type GroupState, group } from "../../../events/group.ts";
import type { GroupEvent } from "../../../events/group-events.ts";
import { type RolloutCommand, rollout } from "../../../events/rollout.ts";
import type { RolloutEvent } from "../../../events/rollout-events.ts";
import { manage, measurementsOf } from "../../../events/rollout-manager.ts";
import {
  parseRolloutRequest,
  scaleSchema,
  timeoutsSchema,
} from "../../../events/rollout-request.ts";
import { areSameWeights, type RolloutState, statusOf } from "../../../events/rollout-state.ts";
import { Random } from "../../simulation/random.ts";
import { type Nature, VirtualCluster } from "./virtual-cluster.ts";
import { type PlantedBugs, Violation } from "./world.ts";

/**
 * One model on virtual time: two managers that tick side by side, see the cluster as it was a moment ago,
 * die between any two effects, and whose effects are lost, doubled and late; groups that are killed and
 * deleted by hand; turns by the weights. The deciders and the manager are the real ones.
 *
 * What is assumed: a manager observes before it reads the log; what it records is decided on the version
 * that it has read, and dropped when there is another, or ten seconds after it has observed; the port and the routing keep the rules of
 * cluster-port.ts.
 */

export interface Scenario {
  seed: number;
  /** What the second revision turns out to be. */
  candidate: "good" | "slow" | "failing" | "never ready" | "no machines";
  /** Probabilities of one effect to be lost, doubled, late, and of a manager to die after it. */
  lost: number;
  doubled: number;
  late: number;
  dies: number;
  /** Kills and deletions by hand while there are faults. */
  kills: boolean;
  /** Somebody pauses, promotes, aborts, rolls back, retires, and asks for a third revision. */
  operator: boolean;
  /** Revisions may have no group, and there is no traffic every other minute. */
  rests: boolean;
  /** Groups of the first revision. */
  groups: number;
}

const model = "guide";
const revisions = ["v1", "v2", "v3"];
const faultsMs = 240_000;
const patienceMs = 1_200_000;
const stepMs = 1_000;
const mostRecordingMs = 10_000;

const most = 3;
const scaleOf = ({ rests }: Scenario) =>
  scaleSchema.parse({
    ...{ min: rests ? 0 : 1, max: most, zeroAfterMs: rests ? 20_000 : null },
    cooldown: { upMs: 10_000, downMs: 20_000 },
  });
const timeouts = timeoutsSchema.parse({
  ...{ capacityMs: 60_000, formMs: 60_000, stepMs: 240_000, drainMs: 120_000, settleMs: 5_000 },
});
const requestOf = (scenario: Scenario, rolloutId: string, revision: string) =>
  parseRolloutRequest({
    ...{ rolloutId, model, revision, whenBusy: "queue", bakeMs: 20_000, by: "test" },
    gates: { minimumTurns: 5, errorRate: 0.2, firstTokenP95Ms: 2_000 },
    ...{ maxGroupLosses: 100, timeouts, scale: scaleOf(scenario) },
  });

const good: Nature = { formMs: 8_000, capacityMs: 4_000, errorRate: 0, firstTokenMs: 200 };
const natures: Record<Scenario["candidate"], Nature> = {
  good,
  slow: { ...good, firstTokenMs: 9_000 },
  failing: { ...good, errorRate: 0.6 },
  "never ready": { ...good, formMs: undefined },
  "no machines": { ...good, capacityMs: undefined },
};

export class Simulation {
  readonly cluster: VirtualCluster;
  readonly rolloutLog: RolloutEvent[][] = [];
  readonly groupLogs = new Map<string, GroupEvent[][]>();
  readonly #random: Random;
  readonly #scenario: Scenario;
  readonly #due: { at: number; run: () => void }[] = [];

  constructor(scenario: Scenario, bugs: PlantedBugs = {}) {
    this.#scenario = scenario;
    this.#random = new Random(scenario.seed);
    const all = { v1: good, v2: natures[scenario.candidate], v3: good };
    this.cluster = new VirtualCluster(all, this.#random, bugs);
  }

  get state(): RolloutState {
    return fold(rollout, this.rolloutLog.flat());
  }

  groupState(groupId: string): GroupState {
    return fold(group, (this.groupLogs.get(groupId) ?? []).flat());
  }

  /** @returns the state in the end. @throws Violation */
  run(): RolloutState {
    this.#begin();
    const { cluster } = this;
    while (cluster.now < faultsMs + patienceMs) {
      cluster.step(stepMs);
      const due = this.#due.filter(({ at }) => at <= cluster.now);
      for (const effect of due) this.#due.splice(this.#due.indexOf(effect), 1);
      for (const { run } of due) run();
      this.#traffic();
      if (cluster.now < faultsMs) this.#disturb();
      for (const chance of [0.2, 0.2]) if (this.#random.chance(chance)) this.#tick();
      this.#check();
      if (cluster.now > faultsMs + 100_000 && this.#isDone()) return this.state;
    }
    throw new Violation(`nothing comes of it: ${statusOf(this.state)}`);
  }

  #begin(): void {
    const groupIds = Array.from({ length: this.#scenario.groups }, (_, i) => `v1-${i}`);
    const adopt = {
      revision: "v1",
      scale: scaleOf(this.#scenario),
      timeouts,
      groupIds,
      by: "test",
    };
    this.#execute({ type: "AdoptRevision", at: 0, model, ...adopt });
    this.cluster.do({
      ...{ type: "EnsureCapacity", model, revision: "v1", groups: groupIds.length, basis: 0 },
    });
    for (const groupId of groupIds) this.cluster.start(groupId, "v1");
    const weights = [{ revision: "v1", percent: 100 }];
    this.cluster.do({ type: "SetWeights", model, weights, version: 1 });
    this.#later(30_000, () =>
      this.#ask({ type: "StartRollout", ...{ request: requestOf(this.#scenario, "r2", "v2") } }),
    );
    if (!this.#scenario.operator) return;
    const names = { by: "test", reason: "to try" };
    const random = this.#random;
    for (let i = random.whole(1, 4); i > 0; i--) {
      const command = random.pick([
        { type: "PauseRollout", ...names },
        { type: "PromoteNow", ...names },
        { type: "AbortRollout", ...names },
        { type: "RollBack", ...names, returnId: `back-${i}` },
        { type: "RetireRevision", ...names, revision: `v${random.whole(1, 3)}` },
        { type: "StartRollout", request: requestOf(this.#scenario, `r3-${i}`, "v3") },
      ] as const);
      if (command !== undefined)
        this.#later(random.between(30_000, faultsMs), () => this.#ask(command));
    }
    this.#later(faultsMs, () => this.#ask({ type: "ResumeRollout", ...names }));
  }

  #later(ms: number, run: () => void): void {
    this.#due.push({ at: this.cluster.now + ms, run });
  }

  #ask(command: Record<string, unknown> & { type: RolloutCommand["type"] }): void {
    try {
      this.#execute({ at: this.cluster.now, model, ...command } as RolloutCommand);
    } catch (error) {
      // An operator who asks for what cannot be is told so.
      if (!(error instanceof AxonError)) throw error;
    }
  }

  #execute(command: RolloutCommand): void {
    const events = rollout.decide(command, this.state);
    if (events.length > 0) this.#commit(events);
  }

  #traffic(): void {
    // Little in the end, so that the number of groups comes to rest.
    const isQuiet = this.#scenario.rests && Math.floor(this.cluster.now / 60_000) % 2 === 1;
    const isAsked = !isQuiet && this.#random.chance(this.#isCalm() ? 0.2 : 0.8);
    const revision = isAsked ? this.cluster.pick() : undefined;
    if (revision === undefined) return;
    this.#later(this.#random.between(0, 3_000), () => {
      const { promoted, current, retiring } = this.state;
      const isOpen = retiring?.revision === revision && !retiring.isDraining;
      const isKnown = [promoted, current?.request.revision].includes(revision) || isOpen;
      const isOverdue = retiring?.isOverdue === true;
      if (!isKnown && !isOverdue) {
        throw new Violation(`a turn is asked of ${revision}, which has no groups any more`);
      }
      this.cluster.ask(revision);
    });
  }

  #disturb(): void {
    if (!this.#scenario.kills) return;
    const groupId = this.#random.pick([...this.cluster.groups.keys()]);
    if (groupId === undefined) return;
    if (this.#random.chance(0.02)) this.cluster.kill(groupId);
    if (this.#random.chance(0.01)) this.cluster.removeByHand(groupId);
    const isThere = this.cluster.groups.has("v1-77");
    if (this.#random.chance(0.005) && !isThere) this.cluster.start("v1-77", "v1");
  }

  /** A manager that sees the cluster now, and the log a moment later. */
  #tick(): void {
    const wanted = measurementsOf(this.state)[0]?.since;
    const observed = structuredClone(this.cluster.observe(revisions, wanted));
    this.#later(this.#isCalm() ? 0 : this.#random.between(0, 3_000), () => {
      const { state } = this;
      const version = this.rolloutLog.length;
      const groups = new Map(
        state.groups.map(({ groupId }) => [groupId, this.groupState(groupId)] as const),
      );
      const versions = new Map(
        [...groups.keys()].map((id) => [id, this.groupLogs.get(id)?.length ?? 0] as const),
      );
      const actions = manage({ state, version, groups, observed, now: this.cluster.now });
      const records = this.#records(actions.rollout, state, version, observed.at);
      const effects = [
        ...records,
        ...actions.groups.map(
          (command) => () =>
            this.#recordGroup(
              command,
              groups.get(command.groupId),
              versions.get(command.groupId) ?? 0,
            ),
        ),
        ...actions.cluster.map((command) => () => this.cluster.do(command)),
      ];
      this.#send(effects);
    });
  }

  /** Effects in their order, if nothing happens to them. */
  #send(effects: (() => void)[]): void {
    const { lost, doubled, late, dies } = this.#scenario;
    const random = this.#random;
    const calm = this.#isCalm();
    for (const run of effects) {
      if (calm) run();
      else {
        if (random.chance(dies)) return;
        if (random.chance(lost)) continue;
        if (random.chance(doubled)) this.#later(random.between(0, 90_000), run);
        if (random.chance(late)) this.#later(random.between(0, 40_000), run);
        else run();
      }
    }
  }

  #isCalm = (): boolean => this.cluster.now >= faultsMs + 95_000;

  /** Each appends its events after the version that it was decided on. */
  #records(
    commands: readonly RolloutCommand[],
    state: RolloutState,
    version: number,
    observedAt: number,
  ): (() => void)[] {
    let after = state;
    let recorded = 0;
    return commands.map((command, i) => {
      const before = after;
      const events = rollout.decide(command, before);
      after = events.reduce(rollout.evolve, before);
      return () => {
        // A caller that is so late drops it.
        if (this.cluster.now > observedAt + mostRecordingMs) return;
        if (recorded !== i || this.rolloutLog.length !== version + i) return;
        recorded += 1;
        this.#commit(events);
      };
    });
  }

  #recordGroup(command: GroupCommand, state: GroupState | undefined, version: number): void {
    const log = this.groupLogs.get(command.groupId) ?? [];
    if (log.length !== version) return;
    const events = group.decide(command, state ?? group.initialState());
    if (events.length > 0) this.groupLogs.set(command.groupId, [...log, events]);
  }

  #commit(events: RolloutEvent[]): void {
    const before = this.state;
    this.rolloutLog.push(events);
    const after = this.state;
    for (const event of events) this.#checkEvent(event, before, after);
    const sum = after.weights.reduce((total, { percent }) => total + percent, 0);
    if (sum !== 100 && after.weights.length > 0) throw new Violation(`weights sum to ${sum}`);
    if (after.weights.length === 0 && after.promoted !== undefined) {
      throw new Violation(`${after.promoted} is promoted and has no traffic`);
    }
  }

  #checkEvent(event: RolloutEvent, before: RolloutState, after: RolloutState): void {
    const wasDisturbed = this.cluster.now - this.cluster.lastKillAt < 25_000;
    if (event.type === "RolloutPromoted" && (event.from ?? undefined) !== before.promoted) {
      throw new Violation(`${event.revision} is promoted beside ${before.promoted}`);
    }
    // A model that was taken out of service has its last group taken away.
    const isInService = after.weights.length > 0;
    if (event.type === "GroupReleased" && !wasDisturbed && isInService) {
      const had = this.#serving(before);
      const { rests } = this.#scenario;
      const isAtRest = rests && !this.#hasTurns(event.revision, this.cluster.now - 10_000);
      if (had > 0 && this.#serving(after) === 0 && !isAtRest) {
        throw new Violation(`${event.groupId} was the last group that is ready`);
      }
    }
    if (event.type === "CanaryStepped" && !wasDisturbed) {
      const { request: asked } = after.current ?? {};
      if (asked !== undefined && this.#serving(after, asked.revision) === 0) {
        throw new Violation(`${asked.revision} gets traffic and has no group`);
      }
    }
  }

  /** Whether turns are open that were asked for before then. */
  #hasTurns(revision: string, before: number): boolean {
    return this.cluster.turns.some(
      (turn) => turn.revision === revision && turn.ended === undefined && turn.askedAt < before,
    );
  }

  /** Groups that are to stay, and that do take turns. */
  #serving(state: RolloutState, revision?: string): number {
    return state.groups.filter((member) => {
      const there = this.cluster.groups.get(member.groupId);
      const isOf = revision === undefined || member.revision === revision;
      return isOf && !member.isReleased && there !== undefined && this.cluster.takesTurns(there);
    }).length;
  }

  /** A late CreateGroup may bring back a group that is gone: a stray, which the next tick removes. */
  #check(): void {
    for (const revision of revisions) {
      const own = this.state.groups.filter((member) => member.revision === revision);
      if (own.length > 3)
        throw new Violation(`${revision} has ${own.length} groups; 3 is the most`);
    }
  }

  /** All is as the log wants it, and the manager has nothing to say. */
  #isDone(): boolean {
    const { state, cluster } = this;
    const { now, turns, weights } = cluster;
    const isAtRest = ["serving", "out of service"].includes(statusOf(state));
    if (!isAtRest || state.queue.length > 0) return false;
    if (turns.some(({ ended, askedAt }) => ended === undefined && now - askedAt > 60_000))
      return false;
    if (!areSameWeights(weights?.weights ?? [], state.weights)) return false;
    const members = state.groups.map(({ groupId }) => groupId).sort();
    const there = [...cluster.groups.keys()].sort();
    if (members.join() !== there.join()) return false;
    if (members.some((id) => this.groupState(id).status !== "ready")) return false;
    const groups = new Map(members.map((id) => [id, this.groupState(id)] as const));
    const observed = cluster.observe(revisions, undefined);
    const input = { state, version: this.rolloutLog.length, groups, observed, now };
    return Object.values(manage(input)).every((commands) => commands.length === 0);
  }
}
