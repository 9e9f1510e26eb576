import { expect, test } from "vitest";
import { unavailable } from "./harness/graph.ts";
import { typeErrors } from "./harness/type-errors.ts";

test.skipIf(unavailable)(
  "the stacks are what SST's components take",
  { timeout: 180_000 },
  async () => {
    expect(await typeErrors()).toEqual([]);
  },
);
