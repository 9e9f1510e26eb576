import { describe, expect, test } from "vitest";
import { upcast } from "../../events/event-catalog.ts";

const current = {
  type: "TurnAdded",
  version: 1,
  at: 5,
  conversationId: "c1",
  turnId: "t1",
  ordinal: 2,
} as const;

describe("upcast", () => {
  test("reads an event of today as it is", () => {
    expect(upcast(structuredClone(current))).toEqual(current);
  });

  test("takes an old one through all the steps between", () => {
    // Made up: once the ordinal was called `position`, and before that it counted from 0 as `index`.
    const steps = new Map<string, (event: Record<string, unknown>) => Record<string, unknown>>([
      [
        "TurnAdded@-1",
        ({ index, ...rest }) => ({
          ...rest,
          version: 0,
          position: Number(index) + 1,
        }),
      ],
      [
        "TurnAdded@0",
        ({ position, ...rest }) => ({
          ...rest,
          version: 1,
          ordinal: position,
        }),
      ],
    ]);
    const { ordinal: _, ...rest } = current;
    expect(upcast({ ...rest, version: -1, index: 1 }, steps)).toEqual(current);
    expect(upcast({ ...rest, version: 0, position: 2 }, steps)).toEqual(current);
    expect(upcast(current, steps)).toEqual(current);
  });

  test.each([
    ["an unknown type", { ...current, type: "TurnMoved" }],
    ["a version from the future", { ...current, version: 2 }],
    ["a field that is missing", { ...current, ordinal: undefined }],
    ["a field too many", { ...current, colour: "red" }],
    ["no event at all", "TurnAdded"],
  ])("refuses %s", (_, stored) => {
    expect(() => upcast(stored)).toThrow();
  });
});
