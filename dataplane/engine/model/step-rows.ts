import { rowsOf, type StepPlan } from "../step-plan.ts";
import { RotaryAngles } from "./rotary.ts";

/** A step plan, laid out row by row: one row is one token of one sequence. */
export interface StepRows {
  count: number;
  /** [rows] */
  tokens: Int32Array;
  /** [rows] */
  slots: Int32Array;
  /** [rows] */
  positions: Int32Array;
  /** The rows whose logits are wanted, in the order of the plan's chunks. */
  wanted: number[];
  angles: RotaryAngles;
}

export function layOutRows(plan: StepPlan, frequencies: Float64Array): StepRows {
  const count = rowsOf(plan);
  const tokens = new Int32Array(count);
  const slots = new Int32Array(count);
  const positions = new Int32Array(count);
  const wanted: number[] = [];
  let row = 0;
  for (const chunk of plan.chunks) {
    chunk.tokens.forEach((token, i) => {
      tokens[row] = token;
      slots[row] = chunk.slot;
      positions[row] = chunk.start + i;
      row += 1;
    });
    if (chunk.wantsLogits) wanted.push(row - 1);
  }
  const angles = new RotaryAngles(frequencies, positions);
  return { count, tokens, slots, positions, wanted, angles };
}
