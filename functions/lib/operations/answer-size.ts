import { AxonError } from "../../../events/errors.ts";
import type { ObservedFrame, OperatedFrame } from "../../../events/observations.ts";

/** API Gateway carries 128 KB at most. What is larger would not come, and nobody would hear why. */
const mostBytes = 125_000;

/**
 * @param what there would be to read, as the beginning of the sentence that says so.
 * @throws AxonError invalid_field
 */
export function refuseTooLarge(
  frame: ObservedFrame | OperatedFrame,
  { field, what }: { field: string; what: string },
): void {
  const bytes = Buffer.byteLength(JSON.stringify(frame));
  if (bytes <= mostBytes) return;
  throw new AxonError(
    "invalid_field",
    `${field}: ${what} takes ${bytes} bytes, and a connection carries ${mostBytes}. Ask for less, or use \`axon\`.`,
    { field },
  );
}
