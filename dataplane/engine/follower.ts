import type { Checkpoint } from "./checkpoint/checkpoint.ts";
import type { Collective } from "./collectives/collective.ts";
import { decodeSetup, loadRank } from "./rank-setup.ts";
import { decodeOrder } from "./step-plan.ts";

/**
 * What a rank above 0 does: hears from the leader how the group is set up, loads its share of the
 * model, and follows the leader's orders until the group ends, which is thrown. Closes the checkpoint.
 */
export async function follow(checkpoint: Checkpoint, collective: Collective): Promise<never> {
  const setup = decodeSetup(await collective.broadcast());
  const { step } = await loadRank(checkpoint, collective, setup);
  for (;;) await step.run(decodeOrder(await collective.broadcast()));
}
