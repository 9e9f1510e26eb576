import { readFileSync, writeFileSync } from "node:fs";
import type { Decider } from "../events/decider.ts";
import { AxonError } from "../events/errors.ts";
import type { Measured } from "../events/gates.ts";
import { type GroupCommand, type GroupState, group } from "../events/group.ts";
import { type RolloutCommand, rollout } from "../events/rollout.ts";
import { parseRolloutRequest, scaleSchema, timeoutsSchema } from "../events/rollout-request.ts";
import {
  deadlineOf,
  groupIdOf,
  type RolloutState,
  statusOf,
  stepInForce,
} from "../events/rollout-state.ts";

/*
 * Draws the state machines of ROLLOUT.md from the deciders: node docs/build-rollout-diagram.ts [FILE]. It
 * begins at the initial state and gives every state that it reaches every command that could mean
 * something there; what changes the status is an arrow.
 */

/** A command with the word that stands at its arrow. */
type Asked<Command> = [label: string, command: Command];

interface Machine<Command, State> {
  statusOf(state: State): string;
  /** States of one key are alike: one of them is tried. */
  keyOf(state: State): string;
  commandsFor(state: State, at: number): Asked<Command>[];
}

function draw<Command, Event, State>(
  decider: Decider<Command, Event, State>,
  machine: Machine<Command, State>,
): string {
  const arrows = new Map<string, Set<string>>();
  const tried = new Set<string>();
  const queue = [{ state: decider.initialState(), at: 0 }];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const { state, at } = next;
    const key = machine.keyOf(state);
    if (tried.has(key)) continue;
    tried.add(key);
    for (const [label, command] of machine.commandsFor(state, at)) {
      const after = outcome(decider, command, state);
      if (after === state) continue;
      queue.push({ state: after, at: (command as { at: number }).at });
      const [from, to] = [machine.statusOf(state), machine.statusOf(after)];
      if (from === to) continue;
      const arrow = `${nodeOf(from)} --> ${nodeOf(to)}`;
      arrows.set(arrow, (arrows.get(arrow) ?? new Set()).add(label));
    }
  }
  const lines = [...arrows].map(([arrow, labels]) => `    ${arrow}: ${[...labels].join("<br>")}`);
  return ["```mermaid", "stateDiagram-v2", ...lines, "```"].join("\n");
}

/** "none" is where the picture begins. */
const nodeOf = (status: string) => (status === "none" ? "[*]" : status.replaceAll(" ", "_"));

function outcome<Command, Event, State>(
  decider: Decider<Command, Event, State>,
  command: Command,
  state: State,
): State {
  try {
    return decider.decide(command, state).reduce(decider.evolve, state);
  } catch (error) {
    if (error instanceof AxonError) return state;
    throw error;
  }
}

const model = "guide";
const scale = scaleSchema.parse({ max: 4 });
const timeouts = timeoutsSchema.parse({});
const by = { by: "operator", reason: "to draw it" };
const fine: Measured = { turns: 100, errors: 0, firstTokenP95Ms: 1, interTokenP95Ms: 1 };

function rolloutCommands(state: RolloutState, before: number): Asked<RolloutCommand>[] {
  const at = before + 1;
  const stamp = { at, model };
  const number = state.seen.length + 2;
  const request = { rolloutId: `r${number}`, model, revision: `guide-${number}`, by: "operator" };
  const adopted = { revision: "guide-1", scale, timeouts, groupIds: ["guide-1-0"], by: "deploy" };
  const careful = parseRolloutRequest({ ...request, automaticRollback: false, steps: [10, 100] });
  const retired = state.promoted ?? "";
  return [
    ["AdoptRevision", { type: "AdoptRevision", ...stamp, ...adopted }],
    ["StartRollout", { type: "StartRollout", ...stamp, request: parseRolloutRequest(request) }],
    ["StartRollout", { type: "StartRollout", ...stamp, request: careful }],
    ["PauseRollout", { type: "PauseRollout", ...stamp, ...by }],
    ["ResumeRollout", { type: "ResumeRollout", ...stamp, ...by }],
    ["PromoteNow", { type: "PromoteNow", ...stamp, ...by }],
    ["AbortRollout", { type: "AbortRollout", ...stamp, ...by }],
    ["RollBack", { type: "RollBack", ...stamp, ...by, returnId: `back-${number}` }],
    ["RetireRevision", { type: "RetireRevision", ...stamp, revision: retired, ...by }],
    ["CheckTimeouts", { type: "CheckTimeouts", model, at: deadlineOf(state) ?? at }],
    ...reports(state, at),
    ...endings(state, at),
  ];
}

function reports({ current }: RolloutState, at: number): Asked<RolloutCommand>[] {
  if (current === undefined) return [];
  const { request, step, watchedSince } = current;
  const { rolloutId, revision, bakeMs } = request;
  const ofStep = { at, model, rolloutId, step };
  const groupIds = [groupIdOf(revision, 0)];
  const inForce = { ...ofStep, step: stepInForce(current), baseline: null };
  const baked = { ...inForce, at: Math.max(at, watchedSince + bakeMs), measured: fine };
  const failing = { ...inForce, measured: { ...fine, errors: fine.turns } };
  const failed: Asked<RolloutCommand> = [
    "ReportMeasured: a gate fails",
    { type: "ReportMeasured", ...failing },
  ];
  return [
    ["ReportCapacityReady", { type: "ReportCapacityReady", ...ofStep }],
    ["ReportGroupsReady", { type: "ReportGroupsReady", ...ofStep, groupIds }],
    ["ReportMeasured: it has passed", { type: "ReportMeasured", ...baked }],
    // A roll back after the promotion has no gates.
    ...(request.gates.errorRate === null ? [] : [failed]),
    ["ReportProblem", { type: "ReportProblem", at, model, rolloutId, reason: "a group failed" }],
  ];
}

function endings({ retiring, groups }: RolloutState, at: number): Asked<RolloutCommand>[] {
  if (retiring === undefined) return [];
  const { revision } = retiring;
  const ended = groups.filter((member) => member.revision === revision);
  return [
    ["DrainRevision", { type: "DrainRevision", at, model, revision, reason: "no turns" }],
    ["ReportRetired", { type: "ReportRetired", at, model, revision }],
    ...ended.map(({ groupId }): Asked<RolloutCommand> => {
      const names = { at, model, groupId, revision, reason: "it is gone", failed: true };
      return ["RemoveGroup", { type: "RemoveGroup", ...names }];
    }),
  ];
}

const rollouts: Machine<RolloutCommand, RolloutState> = {
  statusOf,
  keyOf(state) {
    const { current, retiring, promoted, previous, groups } = state;
    const isLast = current === undefined ? "" : current.step === current.request.steps.length - 1;
    const way = [current?.phase, current?.step, isLast, current?.request.automaticRollback];
    const end = [retiring?.because, retiring?.isDraining, groups.length];
    return [statusOf(state), ...way, ...end, promoted === undefined, previous === undefined].join();
  },
  commandsFor: rolloutCommands,
};

function groupCommands(state: GroupState, before: number): Asked<GroupCommand>[] {
  const stamp = { at: before + 1, groupId: "guide-1-0" };
  const epoch = state.status === "none" ? 1 : state.epoch + 1;
  const late = state.status === "none" ? 0 : state.formingSince + state.formMs;
  const lost = { epoch: epoch - 1, reason: "silent" };
  return [
    ["RequestGroup", { type: "RequestGroup", ...stamp, model, revision: "guide-1", formMs: 1_000 }],
    ["ReportReady", { type: "ReportReady", ...stamp, epoch, ranks: 1, slots: 1 }],
    ["ReportLost", { type: "ReportLost", ...stamp, ...lost }],
    ["CheckForming", { type: "CheckForming", ...stamp, at: late }],
    ["ReportFailed", { type: "ReportFailed", ...stamp, reason: "no image" }],
    ["DrainGroup", { type: "DrainGroup", ...stamp, reason: "not wanted" }],
    ["ReportGone", { type: "ReportGone", ...stamp }],
  ];
}

const groups: Machine<GroupCommand, GroupState> = {
  statusOf: ({ status }) => status,
  keyOf: ({ status }) => status,
  commandsFor: groupCommands,
};

/** Puts a picture between the two marks that its name has in the document. */
function put(document: string, name: string, picture: string): string {
  const [begin, end] = [`<!-- ${name}: generated -->`, `<!-- ${name}: end -->`];
  const [from, to] = [document.indexOf(begin), document.indexOf(end)];
  if (from === -1 || to < from) throw new Error(`ROLLOUT.md has no place for ${name}.`);
  return `${document.slice(0, from + begin.length)}\n\n${picture}\n\n${document.slice(to)}`;
}

const source = new URL("ROLLOUT.md", import.meta.url);
const withRollouts = put(readFileSync(source, "utf8"), "rollout", draw(rollout, rollouts));
writeFileSync(process.argv[2] ?? source, put(withRollouts, "group", draw(group, groups)));
