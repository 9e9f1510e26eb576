import { AxonError } from "../../../events/errors.ts";
import { type Rotation, rotationKey, rotationSchema } from "../../../events/redis-keys.ts";
import type { SeenGroup } from "../../../events/views.ts";
import { runScript } from "../redis-script.ts";
import { readPast } from "../rollout/rollout-past.ts";
import type { OperatorDeps } from "./operator.ts";
import { seeGroups } from "./see-groups.ts";

/** Where a rotation stands. `done` where the leader was started since. */
export interface RotationAnswer extends Rotation {
  revision: string;
  state: "asked" | "under way" | "done";
}

/** Longer than a leader may drain and a group may form. */
const rotationTtlSeconds = 30 * 60;

/**
 * Guarantee: of two who ask at once one writes, and the other is told what it wrote.
 * KEYS 1 rotation:{revision}. ARGV 1 what was read there, "" for nothing; 2 what is to be there; 3 lifetime, s.
 * Returns what is there then.
 */
const replaceScript = `
local now = redis.call('GET', KEYS[1]) or ''
if now ~= ARGV[1] then return now end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return ARGV[2]
`;

/**
 * Lets a group's leader end its turns and be started again: it reads of it within a second, takes no more turns,
 * ends or hands over those it has, and exits; the cluster starts it again under the same id. One group of a
 * revision at a time. Asked again meanwhile nothing more happens.
 * @throws AxonError not_found | rollout_refused, where nobody else would take the revision's turns |
 *   rollout_busy, while another group of the revision is rotated
 */
export async function rotate(
  deps: OperatorDeps,
  { groupId, epoch: meant }: { groupId: string; epoch?: number | undefined },
): Promise<RotationAnswer> {
  const groups = await seeGroups(deps);
  const group = groups.find((one) => one.groupId === groupId);
  if (group === undefined || group.status === "gone" || group.status === "failed") {
    throw new AxonError("not_found", `There is no group ${groupId} that could be rotated.`, {
      field: "groupId",
    });
  }
  const { revision, epoch } = group;
  if (meant !== undefined && epoch > meant) return { groupId, epoch, revision, state: "done" };
  const key = rotationKey(revision);
  const text = (await deps.redis.get(key)) ?? "";
  const before = text === "" ? undefined : rotationSchema.parse(JSON.parse(text));
  if (before !== undefined && isUnderWay(before, groups)) {
    if (before.groupId === groupId) return { ...before, revision, state: "under way" };
    throw busy(before);
  }
  await refuseLast(deps, group, groups);
  const rotation: Rotation = { groupId, epoch };
  const own = JSON.stringify(rotation);
  const written = await runScript(
    deps.redis,
    replaceScript,
    [key],
    [text, own, rotationTtlSeconds],
  );
  if (written !== own) throw busy(rotationSchema.parse(JSON.parse(String(written))));
  return { ...rotation, revision, state: "asked" };
}

const busy = ({ groupId }: Rotation): AxonError =>
  new AxonError("rollout_busy", `${groupId} is being rotated. Wait until it is ready again.`);

/** Until the group is ready with a leader that was started since. */
function isUnderWay({ groupId, epoch }: Rotation, groups: readonly SeenGroup[]): boolean {
  const group = groups.find((one) => one.groupId === groupId);
  if (group === undefined) return false;
  return group.epoch <= epoch || group.status !== "ready" || !group.isAccepting;
}

const serves = ({ status, isAccepting }: SeenGroup): boolean => status === "ready" && isAccepting;

/** A revision that gets turns keeps a group that takes them. */
async function refuseLast(
  deps: OperatorDeps,
  group: SeenGroup,
  groups: readonly SeenGroup[],
): Promise<void> {
  if (!serves(group)) return;
  const { model, revision, groupId } = group;
  const { state } = await readPast(deps, model, {});
  const hasTraffic =
    state.weights.length === 0 || state.weights.some((weight) => weight.revision === revision);
  const others = groups.filter((one) => one.revision === revision && one.groupId !== groupId);
  if (!hasTraffic || others.some(serves)) return;
  throw new AxonError(
    "rollout_refused",
    `${groupId} is the only group that takes turns of ${revision}, which serves ${model}: give it another group first.`,
    { field: "groupId" },
  );
}
