import type { Checkpoint } from "./checkpoint/checkpoint.ts";
import type { Collective } from "./collectives/collective.ts";
import { LlamaModel } from "./model/llama.ts";
import { decodePlan } from "./step-plan.ts";

/**
 * What a rank above 0 does: loads its share of the model, and follows the leader's step plans until
 * the group ends, which is thrown. Closes the checkpoint.
 */
export async function follow(checkpoint: Checkpoint, collective: Collective): Promise<never> {
  const model = await LlamaModel.load(checkpoint, collective);
  await checkpoint.close();
  await collective.allReduce(new Float32Array(1)); // Tells the leader that this rank is ready.
  for (;;) await model.forward(decodePlan(await collective.broadcast()));
}
