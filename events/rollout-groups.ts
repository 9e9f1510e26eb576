import { AxonError } from "./errors.ts";
import type { CommandOf } from "./rollout.ts";
import type { RolloutEvent } from "./rollout-events.ts";
import { parseScale } from "./rollout-request.ts";
import { groupIdOf, membersOf, type RolloutState } from "./rollout-state.ts";

/** The part of the rollout's decider (rollout.ts) that is about the groups of its revisions: which, and how many. */

/** The facts that follow from a change of the groups; none where it fits no state any more. */
export function changeGroups(
  command: CommandOf<"AddGroup" | "ReleaseGroup" | "RemoveGroup">,
  state: RolloutState,
): RolloutEvent[] {
  const { groupId, revision, reason } = command;
  const known = state.revisions[revision];
  if (known === undefined) return [];
  const { at, model } = command;
  const fact = { version: 1, at, model, groupId, revision, reason } as const;
  if (command.type === "AddGroup") {
    const { scale, groupsMade } = known;
    if (groupId !== groupIdOf(revision, groupsMade)) return [];
    const groups = state.groups.filter((group) => group.revision === revision);
    if (!isInUse(state, revision) || groups.length >= scale.max) return [];
    return [{ type: "GroupAdded", ...fact }];
  }
  const member = state.groups.find((group) => group.groupId === groupId);
  if (member === undefined) return [];
  if (command.type === "RemoveGroup") {
    if (!member.isReleased && !command.failed) return [];
    return [{ type: "GroupRemoved", ...fact, failed: command.failed }];
  }
  if (member.isReleased) return [];
  const serving = state.weights.flatMap((weight) => membersOf(state, weight.revision));
  const isLast = serving.length === 1 && serving[0] === member;
  if (isLast && known.scale.min > 0) return [];
  return [{ type: "GroupReleased", ...fact }];
}

/**
 * The first group after a rest. One that is there, or on its way, is enough; where groups have failed the
 * manager decides when the next one is tried.
 */
export function wake(command: CommandOf<"WakeRevision">, state: RolloutState): RolloutEvent[] {
  const { at, model, revision } = command;
  const known = state.revisions[revision];
  if (known === undefined || known.failures > 0 || state.promoted !== revision) return [];
  if (membersOf(state, revision).length > 0) return [];
  const groupId = groupIdOf(revision, known.groupsMade);
  const reason = "the first turn after a rest";
  return changeGroups({ type: "AddGroup", at, model, revision, groupId, reason }, state);
}

/** @throws AxonError invalid_field, where what comes of the change is no scale; rollout_not_found */
export function scaleRevision(
  command: CommandOf<"ScaleRevision">,
  state: RolloutState,
): RolloutEvent[] {
  const { at, model, change, by, reason } = command;
  const { revision = state.promoted } = command;
  const known = revision === undefined ? undefined : state.revisions[revision];
  if (revision === undefined || known === undefined || !isInUse(state, revision)) {
    const which =
      revision === undefined ? "no revision that serves" : `no revision ${revision} now`;
    throw new AxonError("rollout_not_found", `${model} has ${which}.`, { field: "revision" });
  }
  const { target, cooldown, ...rest } = change;
  const scale = parseScale({
    ...{ ...known.scale, ...rest },
    target: { ...known.scale.target, ...target },
    cooldown: { ...known.scale.cooldown, ...cooldown },
  });
  // Both have their fields in the order of the schema.
  if (JSON.stringify(scale) === JSON.stringify(known.scale)) return [];
  return [{ type: "RevisionScaled", version: 1, at, model, revision, scale, by, reason }];
}

function isInUse({ promoted, current, retiring }: RolloutState, revision: string): boolean {
  return [promoted, current?.request.revision, retiring?.revision].includes(revision);
}
