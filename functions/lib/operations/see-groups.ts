import { groupDrainKey } from "../../../events/redis-keys.ts";
import { silentMs } from "../../../events/rollout-view.ts";
import type { SeenGroup } from "../../../events/views.ts";
import { managedModels } from "../rollout/managed-models.ts";
import { beatOf, heardOf } from "../rollout/observe-groups.ts";
import { readPast } from "../rollout/rollout-past.ts";
import type { OperatorDeps } from "./operator.ts";

type GroupDeps = Pick<OperatorDeps, "log" | "redis" | "database" | "models" | "now" | "logger">;

/** Every group that is to be, by the log, and every one that was heard of in the last minute. */
export async function seeGroups(deps: GroupDeps): Promise<SeenGroup[]> {
  const models = await managedModels(deps);
  const known = await Promise.all(models.map((model) => groupsOf(deps, model)));
  return known.flat().sort((one, other) => (one.groupId < other.groupId ? -1 : 1));
}

async function groupsOf(deps: GroupDeps, model: string): Promise<SeenGroup[]> {
  const { state, groups } = await readPast(deps, model, {});
  const deployed = deps.models.all().filter((one) => one.model === model);
  const heard = await heardOf(deps, [
    ...Object.keys(state.revisions),
    ...deployed.map(({ revision }) => revision),
  ]);
  const members = new Map(state.groups.map(({ groupId, revision }) => [groupId, revision]));
  const all = new Map([...heard, ...members]);
  return Promise.all(
    [...all].map(async ([groupId, revision]): Promise<SeenGroup> => {
      const [beat, drain] = await Promise.all([
        beatOf(deps, groupId),
        deps.redis.exists(groupDrainKey(groupId)),
      ]);
      const logged = groups.get(groupId);
      const told = logged === undefined || logged.status === "none" ? undefined : logged;
      const beatAgeMs = beat === undefined ? null : Math.max(0, deps.now() - beat.at);
      const isSilent = beatAgeMs === null || beatAgeMs > silentMs;
      return {
        ...{ groupId, model, revision },
        status: statusOf({
          told: told?.status,
          isMember: members.has(groupId),
          isSilent,
          isDraining: drain === 1,
        }),
        epoch: beat?.epoch ?? told?.epoch ?? 0,
        ranks: beat?.ranks ?? null,
        slots: beat?.slots ?? told?.slots ?? 0,
        running: isSilent ? 0 : (beat?.running ?? 0),
        kvUse: isSilent ? null : (beat?.kvUse ?? null),
        tokensPerSecond: isSilent ? null : (beat?.tokensPerSecond ?? null),
        beatAgeMs,
        isAccepting: !isSilent && beat?.isAccepting === true,
        losses: told?.losses ?? 0,
      };
    }),
  );
}

interface Standing {
  /** By the log; undefined where it does not know the group, or has not asked for it yet. */
  told: Exclude<SeenGroup["status"], "asked for" | "silent"> | undefined;
  isMember: boolean;
  isSilent: boolean;
  isDraining: boolean;
}

function statusOf({ told, isMember, isSilent, isDraining }: Standing): SeenGroup["status"] {
  if (told === undefined) {
    if (isMember && isSilent) return "asked for";
    return isSilent ? "silent" : isDraining ? "draining" : "ready";
  }
  if (told !== "ready") return told;
  return isSilent ? "silent" : isDraining ? "draining" : "ready";
}
