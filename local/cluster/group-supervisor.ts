import {
  ClusterError,
  type ClusterGroup,
  type ClusterView,
  type GroupOrder,
} from "../../events/cluster-port.ts";
import type { RunningChild } from "../child-process.ts";
import { StageError } from "../part.ts";
import { type KeptGroup, keepGroup } from "./kept-group.ts";
import type { WantedFile } from "./wanted.ts";

/** A group that shall run. */
export interface GroupSpec {
  groupId: string;
  model: string;
  revision: string;
}

/** What the local cluster's port asks of the process that has the groups as its children. */
export interface GroupSupervisor {
  view(model: string): Promise<SupervisorView>;
  /** @throws ClusterError */
  follow(order: Exclude<GroupOrder, { type: "DrainGroup" }>): Promise<void>;
}

/** Whether a group drains is not known here. */
export interface SupervisorView extends Omit<ClusterView, "groups"> {
  groups: Omit<ClusterGroup, "isDraining">[];
}

export interface SupervisorOptions {
  wanted: WantedFile;
  /** Groups that this machine has room for, of all revisions. */
  room: number;
  /** @throws StageError model_missing where a group of the revision will never start. */
  start(spec: GroupSpec & { number: number }, signal: AbortSignal): Promise<RunningChild>;
  note(line: string): void;
  /** Called whenever a group is up, or is no more. */
  changed(): void;
}

/**
 * Groups as children of this process. What was ordered is written down before it is done: a supervisor
 * that is killed goes on with it.
 */
export class LocalGroups implements GroupSupervisor {
  readonly #options: SupervisorOptions;
  readonly #kept = new Map<string, GroupSpec & { group: KeptGroup; number: number }>();
  /** Those that are being ended. */
  readonly #ending = new Map<string, GroupSpec & { ended: Promise<void> }>();
  #isStopping = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** Starts the model's groups that are wanted, and says which. */
  resume(model: string): KeptGroup[] {
    const specs = this.#options.wanted.now().groups.filter((spec) => spec.model === model);
    return specs.map((spec) => this.#keep(spec));
  }

  /** Those that run or start, each with its number, from 1, that no other has meanwhile. */
  list(): (GroupSpec & { number: number; child: RunningChild | undefined })[] {
    return [...this.#kept.values()]
      .map(({ group, ...spec }) => ({ ...spec, child: group.child() }))
      .sort((one, other) => one.number - other.number);
  }

  async view(model: string): Promise<SupervisorView> {
    const running = [...this.#kept.values()].map(({ groupId, revision, group, ...spec }) => ({
      ...{ model: spec.model, groupId, revision, exists: true },
      failure: lastingTrouble(group.trouble()),
    }));
    const ending = [...this.#ending.values()].map(({ ended: _, ...spec }) => ({
      ...{ ...spec, exists: true, failure: undefined },
    }));
    const groups = [...running, ...ending].filter((group) => group.model === model);
    return {
      groups: groups.map(({ model: _, ...group }) => group),
      capacity: this.#capacity(model),
    };
  }

  async follow(order: Exclude<GroupOrder, { type: "DrainGroup" }>): Promise<void> {
    if (this.#isStopping) throw new ClusterError("unavailable", "The stage is stopping.");
    switch (order.type) {
      case "EnsureCapacity":
        return this.#ensure(order);
      case "CreateGroup":
        return this.#create(order);
      case "DeleteGroup":
        return this.#delete(order.groupId);
    }
  }

  /** Ends every group; they are started again by the next supervisor. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await Promise.all([...this.#kept.values()].map(({ group }) => group.stop()));
    await Promise.all([...this.#ending.values()].map(({ ended }) => ended));
  }

  #capacity(model: string): ClusterView["capacity"] {
    const { capacity } = this.#options.wanted.now();
    const { room } = this.#options;
    const ofModel = Object.entries(capacity).filter(([, asked]) => asked.model === model);
    return Object.fromEntries(
      ofModel.map(([revision, { groups: asked }]) => {
        const others = this.#existing((spec) => spec.revision !== revision);
        const own = this.#existing((spec) => spec.revision === revision);
        const there = Math.max(own, Math.min(asked, room - others));
        const failure =
          asked > there ? `this machine has room for ${room} groups in all` : undefined;
        return [revision, { asked, there, failure }];
      }),
    );
  }

  #existing(which: (spec: GroupSpec) => boolean): number {
    return [...this.#kept.values(), ...this.#ending.values()].filter(which).length;
  }

  #ensure({ model, revision, groups, basis }: Extract<GroupOrder, { type: "EnsureCapacity" }>) {
    const now = this.#options.wanted.now();
    if (basis < (now.capacity[revision]?.basis ?? 0)) return;
    const capacity = { ...now.capacity, [revision]: { model, groups, basis } };
    this.#options.wanted.change({ ...now, capacity });
  }

  #create({ model, revision, groupId }: GroupSpec): void {
    if (this.#kept.has(groupId) || this.#ending.has(groupId)) return;
    if (this.#existing(() => true) >= this.#options.room) {
      throw new ClusterError(
        "quota",
        `This machine has room for ${this.#options.room} groups, and runs as many.`,
      );
    }
    const spec = { groupId, model, revision };
    const now = this.#options.wanted.now();
    const others = now.groups.filter((group) => group.groupId !== groupId);
    this.#options.wanted.change({ ...now, groups: [...others, spec] });
    this.#keep(spec);
  }

  #delete(groupId: string): void {
    const now = this.#options.wanted.now();
    const groups = now.groups.filter((group) => group.groupId !== groupId);
    if (groups.length < now.groups.length) this.#options.wanted.change({ ...now, groups });
    const kept = this.#kept.get(groupId);
    if (kept === undefined) return;
    const { group, model, revision } = kept;
    const ended = group.stop().finally(() => {
      this.#ending.delete(groupId);
      this.#options.changed();
    });
    this.#kept.delete(groupId);
    this.#ending.set(groupId, { groupId, model, revision, ended });
  }

  #keep(spec: GroupSpec): KeptGroup {
    const taken = new Set([...this.#kept.values()].map(({ number }) => number));
    let number = 1;
    while (taken.has(number)) number++;
    const { start, note, changed } = this.#options;
    const group = keepGroup({
      name: `group ${spec.groupId}`,
      start: (signal) => start({ ...spec, number }, signal),
      ...{ note, started: changed },
    });
    this.#kept.set(spec.groupId, { ...spec, group, number });
    return group;
  }
}

/** Trouble that another start would not end. */
function lastingTrouble(trouble: Error | undefined): string | undefined {
  return trouble instanceof StageError && trouble.code === "model_missing"
    ? trouble.message
    : undefined;
}
