import { warmingMs } from "../../../events/autoscale.ts";
import type { GroupState } from "../../../events/group.ts";
import { warmingKey } from "../../../events/redis-keys.ts";
import { groupIdOf, type RolloutState } from "../../../events/rollout-state.ts";
import type { Deps } from "../deps.ts";
import { groups, load } from "../streams.ts";
import type { ToldWarming } from "./warming.ts";

/** Longer than some ticks: what nobody tells any more is soon not true. */
const ttlMs = 300_000;

/**
 * Tells `chat` of revisions with traffic that have no group which takes turns, how long one will take to.
 * Groups form about as long as the revision's latest one did.
 */
export async function tellWarming(
  deps: Pick<Deps, "redis" | "log" | "now">,
  state: RolloutState,
  known: ReadonlyMap<string, GroupState>,
): Promise<void> {
  for (const { revision } of state.weights) {
    const members = state.groups
      .filter((group) => group.revision === revision)
      .map(({ groupId }) => known.get(groupId) ?? none);
    const key = warmingKey(revision);
    if (members.some(({ status }) => status === "ready")) {
      await deps.redis.del(key);
      continue;
    }
    const latest = groupIdOf(revision, (state.revisions[revision]?.groupsMade ?? 0) - 1);
    const { state: last } = await load(deps.log, groups, latest);
    const asked = [...members, last].flatMap((one) => (one.status === "none" ? [] : [one]));
    const at = deps.now();
    const told: ToldWarming = {
      at,
      estimatedMs: warmingMs(asked, at),
      isForming: members.some(({ status }) => status === "forming"),
    };
    await deps.redis.set(key, JSON.stringify(told), "PX", ttlMs);
  }
}

const none: GroupState = { status: "none" };
