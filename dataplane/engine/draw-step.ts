import { mergeCandidates } from "./candidates.ts";
import type { Collective } from "./collectives/collective.ts";
import { EngineError } from "./engine-error.ts";
import type { RankStep } from "./rank-step.ts";
import { type Draw, drawToken } from "./sampler.ts";
import type { Step } from "./scheduler.ts";
import { encodeOrder, type Pick, type RankOrder } from "./step-plan.ts";

/** So many times as many candidates are asked for when a draw goes beyond them. */
const moreCandidates = 16;

/** Rank 0's part in a step: tells the other ranks, takes part itself, and draws the tokens. */
export class DrawStep {
  readonly #own: RankStep;
  readonly #collective: Collective;
  readonly #vocabularySize: number;

  constructor(own: RankStep, collective: Collective, vocabularySize: number) {
    this.#own = own;
    this.#collective = collective;
    this.#vocabularySize = vocabularySize;
  }

  /** The tokens drawn, one for each draw of the step. */
  async run({ plan, draws }: Step): Promise<Int32Array> {
    const picks = plan.chunks.flatMap(({ pick }) => (pick === undefined ? [] : [pick]));
    const parts = await this.#order({ kind: "step", plan });
    const tokens = new Int32Array(draws.length);
    for (const [i, draw] of draws.entries()) {
      const [pick, part] = [picks[i], parts[i]];
      if (pick === undefined || part === undefined) {
        throw new EngineError("internal", "A draw has no candidates.");
      }
      tokens[i] = await this.#draw(i, draw, pick, part);
    }
    return tokens;
  }

  /** Asks for more candidates until they reach as far as the draw, which is hardly ever needed. */
  async #draw(index: number, draw: Draw, pick: Pick, part: Float32Array): Promise<number> {
    let candidates = mergeCandidates(part, this.#vocabularySize, pick);
    for (let { count } = pick; ; ) {
      const token = drawToken(candidates, draw);
      if (token !== undefined) return token;
      count = Math.min(count * moreCandidates, this.#vocabularySize);
      const [more] = await this.#order({ kind: "more", draw: index, count });
      if (more === undefined) throw new EngineError("internal", "A draw has no more candidates.");
      candidates = mergeCandidates(more, this.#vocabularySize, { ...pick, count });
    }
  }

  async #order(order: RankOrder): Promise<Float32Array[]> {
    await this.#collective.broadcast(encodeOrder(order));
    return this.#own.run(order);
  }
}
