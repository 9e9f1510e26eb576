import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { AxonError } from "../../events/errors.ts";
import { stack } from "../../functions/lib/stack.ts";
import { context, logger } from "./stage.ts";

/** What Lambda's runtime makes an event of the log group of, in its text format. */
let written: string[];
beforeEach(() => {
  written = [];
  vi.spyOn(console, "error").mockImplementation((text: unknown) => void written.push(String(text)));
});
afterEach(() => vi.restoreAllMocks());

const run = (failure: unknown, refuse?: () => string) =>
  stack<object, string>(
    { logger },
    { keysOf: () => ({}), ...(refuse !== undefined && { refuse }) },
    async (_, { log }) => {
      log.add({ turnId: "turn_1", tenantId: "acme" });
      throw failure;
    },
  )({}, context);

test("a fault of ours that is answered is told once, in the shape that Issues read", async () => {
  const fault = Object.assign(new TypeError("the pages are gone"), { args: ["a prompt"] });
  expect(await run(fault, () => "sorry")).toBe("sorry");
  expect(written).toHaveLength(1);
  const [description = "", ...frames] = (written[0] ?? "").split(/\n\s{4}(?=at)/g);
  expect(/([A-Z[][\w\]]+): (.+)$/s.exec(description)?.slice(1)).toEqual([
    "TypeError",
    "the pages are gone (turnId turn_1, invocationId invocation)",
  ]);
  expect(frames[0]).toMatch(/^at .*issues\.test\.ts:\d+:\d+/);
  expect(written[0]).not.toContain("a prompt");
});

test("what Lambda tells by itself, a refusal and a store that is away are not told", async () => {
  await expect(run(new TypeError("the pages are gone"))).rejects.toThrow("the pages are gone");
  const away = Object.assign(new Error("connect"), { code: "ECONNREFUSED" });
  for (const failure of [new AxonError("forbidden", "No."), away]) await run(failure, () => "no");
  expect(written).toEqual([]);
});
