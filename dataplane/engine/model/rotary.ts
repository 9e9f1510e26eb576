/**
 * Rotary position embedding (Su et al., "RoFormer", 2021), in the arrangement of Hugging Face
 * checkpoints: element i of a head turns together with element i + headSize / 2.
 */

import type { ModelConfig, RotaryConfig } from "../checkpoint/model-config.ts";

/** Angle per position of each pair of elements, in radians: [headSize / 2] f64. */
export function rotaryFrequencies(config: ModelConfig): Float64Array {
  const half = config.headSize / 2;
  const frequencies = new Float64Array(half).map((_, i) => config.rope.theta ** (-i / half));
  const { llama3 } = config.rope;
  if (llama3 === undefined) return frequencies;
  return frequencies.map((frequency) => scaleLlama3(frequency, llama3));
}

/**
 * Llama 3.1 slows down the pairs whose wave is longer than the context it was first trained on,
 * leaves those with short waves alone, and blends in between (`apply_scaling` of Meta's llama-models).
 */
function scaleLlama3(frequency: number, scaling: NonNullable<RotaryConfig["llama3"]>): number {
  const { factor, lowFrequencyFactor, highFrequencyFactor, originalContextLength } = scaling;
  const turns = (originalContextLength * frequency) / (2 * Math.PI);
  if (turns < lowFrequencyFactor) return frequency / factor;
  if (turns > highFrequencyFactor) return frequency;
  const blend = (turns - lowFrequencyFactor) / (highFrequencyFactor - lowFrequencyFactor);
  return (1 - blend) * (frequency / factor) + blend * frequency;
}

/** Cosines and sines for some positions: computed once a step, used by every layer. */
export class RotaryAngles {
  readonly #half: number;
  readonly #cosines: Float64Array; // [rows, headSize / 2]
  readonly #sines: Float64Array; // [rows, headSize / 2]

  constructor(frequencies: Float64Array, positions: Int32Array) {
    this.#half = frequencies.length;
    this.#cosines = new Float64Array(positions.length * this.#half);
    this.#sines = new Float64Array(positions.length * this.#half);
    positions.forEach((position, row) => {
      frequencies.forEach((frequency, i) => {
        this.#cosines[row * this.#half + i] = Math.cos(position * frequency);
        this.#sines[row * this.#half + i] = Math.sin(position * frequency);
      });
    });
  }

  /** Turns, in place, x [rows, heads, headSize] f32. */
  rotate(x: Float32Array, rows: number, heads: number): void {
    const half = this.#half;
    for (let row = 0; row < rows; row += 1) {
      for (let head = 0; head < heads; head += 1) {
        const at = (row * heads + head) * half * 2;
        for (let i = 0; i < half; i += 1) {
          const cosine = this.#cosines[row * half + i] as number;
          const sine = this.#sines[row * half + i] as number;
          const first = x[at + i] as number;
          const second = x[at + half + i] as number;
          x[at + i] = first * cosine - second * sine;
          x[at + half + i] = second * cosine + first * sine;
        }
      }
    }
  }
}
