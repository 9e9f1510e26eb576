import type { Checkpoint } from "./checkpoint/checkpoint.ts";
import type { Collective } from "./collectives/collective.ts";
import type { WeightFormat } from "./engine.ts";
import type { Kernels } from "./kernels/kernels.ts";
import { ReferenceKernels } from "./kernels/reference/reference-kernels.ts";
import { WasmKernels } from "./kernels/wasm-kernels.ts";
import { LlamaModel, type ModelRoom } from "./model/llama.ts";
import { RankStep } from "./rank-step.ts";

/** What the leader decides and every rank of the group needs to know before it loads the model. */
export interface RankSetup extends ModelRoom {
  weights: WeightFormat;
}

const weightFormats: readonly WeightFormat[] = ["f32", "int8"];

export function encodeSetup({ weights, rows, pages }: RankSetup): Int32Array<ArrayBuffer> {
  return Int32Array.of(weightFormats.indexOf(weights), rows, pages);
}

export function decodeSetup(encoded: Int32Array): RankSetup {
  const [format = 0, rows = 0, pages = 0] = encoded;
  return { weights: weightFormats[format] ?? "f32", rows, pages };
}

/** Loads a rank's share, closes the checkpoint, and returns when every rank has done so. */
export async function loadRank(
  checkpoint: Checkpoint,
  collective: Collective,
  { weights, ...room }: RankSetup,
): Promise<{ model: LlamaModel; step: RankStep }> {
  const kernels: Kernels = weights === "int8" ? new WasmKernels() : new ReferenceKernels();
  const model = await LlamaModel.load(checkpoint, collective, kernels, room);
  await checkpoint.close();
  await collective.allReduce(new Float32Array(1));
  return { model, step: new RankStep(model, collective) };
}
