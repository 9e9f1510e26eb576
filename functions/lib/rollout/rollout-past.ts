import { fold } from "../../../events/decider.ts";
import type { Commit } from "../../../events/event-log.ts";
import { type GroupState, group } from "../../../events/group.ts";
import { positionAt } from "../../../events/ids.ts";
import { rollout } from "../../../events/rollout.ts";
import type { RolloutState } from "../../../events/rollout-state.ts";
import type { Deps } from "../deps.ts";
import { groups, rollouts } from "../streams.ts";

/** A model as the log tells it: now, or at any moment of the past. */

/** Until when: of a time (Unix ms) to its end; of a position, that commit included. */
export interface Moment {
  at?: number | undefined;
  position?: string | undefined;
}

export interface Past {
  state: RolloutState;
  /** Of the model's stream, oldest first. */
  commits: Commit[];
  /** The groups that it had then, by id. */
  groups: Map<string, GroupState>;
}

/** Whether a commit was there at that moment. */
export function isThere({ at, position }: Moment, commit: Commit): boolean {
  if (at !== undefined && commit.position >= positionAt(at + 1)) return false;
  return position === undefined || commit.position <= position;
}

/** Folds the log up to a moment. Without one, to its end. */
export async function readPast(
  { log }: Pick<Deps, "log">,
  model: string,
  moment: Moment,
): Promise<Past> {
  const all = await log.read(rollouts.nameOf(model));
  const commits = all.filter((commit) => isThere(moment, commit));
  const state = fold(rollout, commits.flatMap(({ events }) => events).filter(rollouts.isOwn));
  const members = await Promise.all(
    state.groups.map(async ({ groupId }) => {
      const own = await groupCommits(log, groupId, moment);
      const events = own.flatMap((commit) => commit.events).filter(groups.isOwn);
      return [groupId, fold(group, events)] as const;
    }),
  );
  return { state, commits, groups: new Map(members) };
}

async function groupCommits(log: Deps["log"], groupId: string, moment: Moment): Promise<Commit[]> {
  const commits = await log.read(groups.nameOf(groupId));
  return commits.filter((commit) => isThere(moment, commit));
}

/**
 * The newest commits about a model and its groups, oldest first, up to a moment.
 * @param commits those of the model's own stream.
 */
export async function newestCommits(
  { log }: Pick<Deps, "log">,
  commits: readonly Commit[],
  moment: Moment,
  most: number,
): Promise<Commit[]> {
  const events = commits.flatMap((commit) => commit.events);
  const groupIds = events.flatMap((event) => {
    if (event.type === "RevisionAdopted") return event.groupIds;
    return event.type === "GroupAdded" ? [event.groupId] : [];
  });
  // A group is forgotten at last: those before the newest have nothing new to say.
  const newest = groupIds.slice(-most);
  const ofGroups = await Promise.all(newest.map((id) => groupCommits(log, id, moment)));
  return [...commits, ...ofGroups.flat()]
    .sort((one, other) => (one.position < other.position ? -1 : 1))
    .slice(-most);
}
