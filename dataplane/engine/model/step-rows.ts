import type { RotaryAngles, RowChunk } from "../kernels/kernels.ts";
import { rowsOf, type StepPlan } from "../step-plan.ts";
import type { RotaryTable } from "./rotary.ts";

/** A step plan, laid out row by row: one row is one token of one sequence. */
export interface StepRows {
  count: number;
  /** [rows] */
  tokens: Int32Array;
  chunks: RowChunk[];
  /** The rows after which a token is drawn, in the order of the plan's chunks. */
  drawing: number[];
  angles: RotaryAngles;
}

export function layOutRows(plan: StepPlan, rotary: RotaryTable): StepRows {
  const count = rowsOf(plan);
  const tokens = new Int32Array(count);
  const positions = new Int32Array(count);
  const drawing: number[] = [];
  const chunks: RowChunk[] = [];
  let row = 0;
  for (const { tokens: chunkTokens, start, pages, pick } of plan.chunks) {
    chunks.push({ firstRow: row, rows: chunkTokens.length, start, pages });
    chunkTokens.forEach((token, i) => {
      tokens[row] = token;
      positions[row] = start + i;
      row += 1;
    });
    if (pick !== undefined) drawing.push(row - 1);
  }
  return { count, tokens, chunks, drawing, angles: rotary.at(positions) };
}
