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

/** The place after the entry of that time and id. */
export function cursorOf(at: number, id: string): string {
  return Buffer.from(JSON.stringify([at, id])).toString("base64url");
}
