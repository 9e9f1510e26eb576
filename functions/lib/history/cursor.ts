import * as z from "zod";
import { idSchema } from "../../../events/frames.ts";

const message = "is no cursor of this list";

/** A place between two entries of a list, newest first: base64url of [time in ms, id]. */
export const cursorSchema = z
  .base64url({ message })
  .transform((text, context): unknown => {
    try {
      return JSON.parse(Buffer.from(text, "base64url").toString("utf8"));
    } catch {
      context.addIssue({ code: "custom", message });
      return z.NEVER;
    }
  })
  .pipe(z.tuple([z.int().min(0).max(8.64e15), idSchema], { message }));

type Cursor = z.output<typeof cursorSchema>;

/** The parameters of a query for what comes after a cursor: its time, null for the list's beginning, and its id. */
export const cursorParameters = (before: Cursor | undefined): [Date | null, string] =>
  before === undefined ? [null, ""] : [new Date(before[0]), before[1]];

/**
 * The entries of a page, and the cursor of the next one, null where there is none.
 * @param found `limit` + 1 entries, where there are so many: the one too many tells that there is a next page.
 */
export function pageOf<Entry>(
  found: readonly Entry[],
  limit: number,
  placeOf: (entry: Entry) => Cursor,
): { page: Entry[]; next: string | null } {
  const page = found.slice(0, limit);
  const last = page.at(-1);
  const next = found.length > limit && last !== undefined ? cursorOf(...placeOf(last)) : null;
  return { page, next };
}

/** The place after the entry of that time and id. */
function cursorOf(at: number, id: string): string {
  return Buffer.from(JSON.stringify([at, id])).toString("base64url");
}
