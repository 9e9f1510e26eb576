import { packCandidates, penalize } from "./candidates.ts";
import type { Collective } from "./collectives/collective.ts";
import { EngineError } from "./engine-error.ts";
import type { LlamaModel } from "./model/llama.ts";
import type { Pick, RankOrder } from "./step-plan.ts";

/** What every rank does with an order: the forward pass, and its part of the candidates. */
export class RankStep {
  readonly #model: LlamaModel;
  readonly #collective: Collective;
  /** Of the last step, for each draw. */
  #drawn: { logits: Float32Array; pick: Pick }[] = [];

  constructor(model: LlamaModel, collective: Collective) {
    this.#model = model;
    this.#collective = collective;
  }

  /**
   * Runs an order. On rank 0 the candidates of all ranks come back for each draw (of a step), or for
   * the one that the order names: [ranks, 2 + 2·count] each, as `packCandidates` has it.
   */
  async run(order: RankOrder): Promise<Float32Array[]> {
    if (order.kind === "step") {
      const logits = await this.#model.forward(order.plan);
      const picks = order.plan.chunks.flatMap(({ pick }) => (pick === undefined ? [] : [pick]));
      this.#drawn = logits.map((own, i) => {
        const pick = picks[i];
        if (pick === undefined) throw new EngineError("internal", "A draw has no pick.");
        penalize(own, this.#model.vocabulary[0], pick);
        return { logits: own, pick };
      });
      return this.#gather(this.#drawn);
    }
    const drawn = this.#drawn[order.draw];
    if (drawn === undefined) throw new EngineError("internal", `There is no draw ${order.draw}.`);
    return this.#gather([{ ...drawn, pick: { ...drawn.pick, count: order.count } }]);
  }

  /** One exchange for all draws. */
  async #gather(drawn: readonly { logits: Float32Array; pick: Pick }[]): Promise<Float32Array[]> {
    if (drawn.length === 0) return [];
    const { kernels, vocabulary } = this.#model;
    const parts = drawn.map(({ logits, pick }) => {
      return packCandidates(kernels, logits, vocabulary[0], pick);
    });
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    const slice = new Float32Array(length);
    let at = 0;
    for (const part of parts) {
      slice.set(part, at);
      at += part.length;
    }
    const gathered = await this.#collective.gather(slice);
    if (gathered === undefined) return [];
    return splitDraws(gathered, parts, length);
  }
}

/** [ranks, draws, …] → for each draw [ranks, …]. */
function splitDraws(gathered: Float32Array, parts: readonly Float32Array[], length: number) {
  const ranks = gathered.length / length;
  let offset = 0;
  return parts.map((part) => {
    const draw = new Float32Array(ranks * part.length);
    for (let rank = 0; rank < ranks; rank += 1) {
      const from = rank * length + offset;
      draw.set(gathered.subarray(from, from + part.length), rank * part.length);
    }
    offset += part.length;
    return draw;
  });
}
