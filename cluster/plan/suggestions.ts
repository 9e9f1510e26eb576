import type { Revision } from "../deployment.ts";
import { type InstanceType, instanceTypes } from "./instances.ts";
import { memoryOf } from "./memory.ts";
import { intermediateSize } from "./model-size.ts";
import { findPrice, hoursPerMonth } from "./prices.ts";

/** Another group on which the same revision would have room for all of its slots. */
export interface Suggestion {
  instanceType: string;
  nodes: number;
  tensorParallel: number;
  pipelineParallel: number;
  fullContexts: number;
  /** Of one group; undefined where the price is not known. */
  usdPerMonth: number | undefined;
}

const mostSuggestions = 3;
const nodeCounts = [1, 2, 4];

/** The cheapest groups with room for all slots at full context, those of unknown price last. */
export function suggest(revision: Revision, region: string): Suggestion[] {
  const found = instanceTypes.flatMap((instance) => {
    const smallest = nodeCounts
      .map((nodes) => suggestionOf(revision, instance, nodes, region))
      .find((suggestion) => suggestion !== undefined);
    return smallest === undefined ? [] : [smallest];
  });
  const cost = ({ usdPerMonth }: Suggestion) => usdPerMonth ?? Number.POSITIVE_INFINITY;
  return found.sort((a, b) => cost(a) - cost(b)).slice(0, mostSuggestions);
}

/** Tensor parallel within a node, as widely as the model allows, pipeline parallel for the rest. */
function suggestionOf(
  revision: Revision,
  instance: InstanceType,
  nodes: number,
  region: string,
): Suggestion | undefined {
  const { gpus, efaCards, name } = instance;
  if (gpus === undefined || revision.engine.kind !== "vllm" || (nodes > 1 && efaCards === 0)) {
    return undefined;
  }
  const widths = Array.from({ length: gpus.count }, (_, i) => gpus.count - i);
  const tensorParallel = widths.find(
    (width) => gpus.count % width === 0 && divides(width, revision),
  );
  if (tensorParallel === undefined) return undefined;
  const pipelineParallel = (nodes * gpus.count) / tensorParallel;
  if (pipelineParallel > revision.shape.layers || pipelineParallel > 16) return undefined;
  const size = { instanceType: name, nodes, tensorParallel, pipelineParallel };
  const { fullContexts } = memoryOf({ ...revision, ...size }, instance);
  if (fullContexts < revision.slots) return undefined;
  const price = findPrice(region, name);
  const usdPerMonth = price === undefined ? undefined : price.usd * hoursPerMonth * nodes;
  return { ...size, fullContexts, usdPerMonth };
}

/** Whether heads and MLP columns can be cut into so many parts. */
function divides(ranks: number, { shape }: Pick<Revision, "shape">): boolean {
  const { attentionHeads, keyValueHeads } = shape;
  const columns = intermediateSize(shape);
  return (
    attentionHeads % ranks === 0 &&
    (keyValueHeads % ranks === 0 || ranks % keyValueHeads === 0) &&
    (!Number.isInteger(columns) || columns % ranks === 0)
  );
}
