import type { RolloutCommand } from "../../events/rollout.ts";
import { parseRolloutRequest, scaleSchema, timeoutsSchema } from "../../events/rollout-request.ts";
import { groupIdOf } from "../../events/rollout-state.ts";
import type { Deps } from "../../functions/lib/deps.ts";
import { execute } from "../../functions/lib/execute.ts";
import { load, rollouts } from "../../functions/lib/streams.ts";
import type { ControlPlaneConfig } from "../control-plane-config.ts";
import { inUse } from "./retired.ts";

const by = "npm start";

/**
 * Tells the log what the stage was started with. A model that the log does not know is adopted with the
 * groups that the supervisor has started. Where it knows the model, it knows better which revision serves it;
 * but a revision that it has never heard of, whose checkpoint lies where the old one lay, is rolled out at
 * once: there is nothing else that could be served.
 * @returns the revisions that turns may be asked of.
 */
export async function adoptModel(
  { log, now }: Pick<Deps, "log" | "now">,
  { model: { model, revision }, groups }: ControlPlaneConfig,
): Promise<string[]> {
  const scale = scaleSchema.parse({ min: groups, max: groups });
  const timeouts = localTimeouts();
  const known = await load(log, rollouts, model);
  const isOther = known.version > 0 && known.state.revisions[revision] === undefined;
  const { state } = await execute(
    log,
    rollouts,
    model,
    (): RolloutCommand => {
      const stamp = { at: now(), model };
      if (!isOther) {
        const groupIds = Array.from({ length: groups }, (_, i) => groupIdOf(revision, i));
        return { type: "AdoptRevision", ...stamp, revision, scale, timeouts, groupIds, by };
      }
      const request = parseRolloutRequest({
        ...{ rolloutId: `start-${revision}`, model, revision, whenBusy: "queue" },
        ...{ steps: [100], bakeMs: 0, automaticRollback: false, scale, timeouts, by },
        gates: {
          ...{ minimumTurns: 0, errorRate: null, firstTokenP95Ms: null },
          ...{ interTokenP95Ms: null, slowdown: null },
        },
        reason: "the checkpoint has changed",
      });
      return { type: "StartRollout", ...stamp, request };
    },
    known,
  );
  return [...new Set([revision, ...inUse(state)])];
}

/** A process of this machine is there in seconds, or never. */
const localTimeouts = () => {
  const settleMs = process.env["AXON_SETTLE_MS"];
  return timeoutsSchema.parse({
    ...{ capacityMs: 60_000, formMs: 120_000, drainMs: 600_000 },
    ...(settleMs !== undefined && { settleMs: Number(settleMs) }),
  });
};
