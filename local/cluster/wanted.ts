import { readFileSync } from "node:fs";
import { z } from "zod";
import { writeAtomically } from "../data-folder.ts";

/**
 * What there shall be on this machine: the groups that were asked for, and how many machines. It outlives
 * the supervisor, which goes on from it.
 */
const wantedSchema = z.strictObject({
  groups: z.array(z.strictObject({ groupId: z.string(), model: z.string(), revision: z.string() })),
  /** By revision. */
  capacity: z.record(
    z.string(),
    z.strictObject({
      model: z.string(),
      groups: z.int().min(0),
      /** The version of the log that it was asked for by. */
      basis: z.int().min(0),
    }),
  ),
});
type Wanted = z.infer<typeof wantedSchema>;

export interface WantedFile {
  now(): Wanted;
  /** Durable when it returns. */
  change(next: Wanted): void;
}

/** @throws ZodError, SyntaxError where somebody else has written it. */
export function openWanted(path: string): WantedFile {
  let wanted: Wanted = { groups: [], capacity: {} };
  try {
    wanted = wantedSchema.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  return {
    now: () => wanted,
    change(next) {
      writeAtomically(path, next);
      wanted = next;
    },
  };
}
