import { expect, test } from "vitest";
import { lonePoints } from "../../../web/ops/lone-points.ts";

test("a value with none beside it is a point, at either end too", () => {
  expect(lonePoints([1, null, null, 2, null, 3, 4, null, 5])).toEqual([0, 3, 8]);
  expect(lonePoints([null, 1, 2, undefined])).toEqual([]);
  expect(lonePoints([0])).toEqual([0]);
  expect(lonePoints([])).toEqual([]);
});
