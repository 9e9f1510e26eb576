/**
 * Rotary position embedding (Su et al., "RoFormer", 2021), in the arrangement of Hugging Face
 * checkpoints: element i of a head turns together with element i + headSize / 2.
 */

import type { ModelConfig, RotaryConfig } from "../checkpoint/model-config.ts";
import type { Kernels, RotaryAngles } from "../kernels/kernels.ts";

/** Angle per position of each pair of elements, in radians: [headSize / 2] f64. */
export function rotaryFrequencies(config: ModelConfig): Float64Array {
  const half = config.headSize / 2;
  const frequencies = new Float64Array(half).map((_, i) => config.rope.theta ** (-i / half));
  const { llama3, frequencyFactors } = config.rope;
  if (frequencyFactors !== undefined) {
    return frequencies.map((frequency, i) => frequency / (frequencyFactors[i] as number));
  }
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

/** Cosines and sines, [rows, headSize / 2] each, computed once a step and used by every layer. */
export class RotaryTable {
  readonly #frequencies: Float64Array;
  readonly #cosines: Float32Array;
  readonly #sines: Float32Array;

  /** Has room for `rows` rows. */
  constructor(config: ModelConfig, kernels: Kernels, rows: number) {
    this.#frequencies = rotaryFrequencies(config);
    this.#cosines = kernels.allocate(rows * this.#frequencies.length);
    this.#sines = kernels.allocate(rows * this.#frequencies.length);
  }

  /** The angles of a position for each row. They hold until the next call. */
  at(positions: Int32Array): RotaryAngles {
    const half = this.#frequencies.length;
    for (let row = 0; row < positions.length; row += 1) {
      const position = positions[row] as number;
      for (let i = 0; i < half; i += 1) {
        const angle = position * (this.#frequencies[i] as number);
        this.#cosines[row * half + i] = Math.cos(angle);
        this.#sines[row * half + i] = Math.sin(angle);
      }
    }
    const length = positions.length * half;
    return {
      rows: positions.length,
      cosines: this.#cosines.subarray(0, length),
      sines: this.#sines.subarray(0, length),
    };
  }
}
