import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { operationSchema } from "../../events/operations.ts";
import { authenticating, frameDoors, functionSources, httpDoors } from "./doors.ts";

const root = join(import.meta.dirname, "..", "..");

interface Schema {
  shape?: Record<string, { value?: unknown } | undefined>;
  options?: Schema[];
}

/** The actions, with the views, of all frames that events/ has a schema of. */
async function framesWithSchema(): Promise<string[]> {
  const found = new Set<string>();
  for (const name of readdirSync(join(root, "events")).filter((one) => one.endsWith(".ts"))) {
    const exported = Object.values(await import(join(root, "events", name))) as Schema[];
    for (const { shape } of exported.flatMap((one) => [one, ...(one?.options ?? [])])) {
      const { action, view } = shape ?? {};
      if (typeof action?.value !== "string") continue;
      found.add([action.value, ...(view === undefined ? [] : [view.value])].join(" "));
    }
  }
  return [...found].sort();
}

const actions = [...new Set(Object.keys(frameDoors).map((name) => name.split(" ")[0]))].sort();

const matches = (text: string, pattern: RegExp): string[] =>
  [...text.matchAll(pattern)].map((match) => match[1] ?? "");

const ids = { turnId: "turn_1", conversationId: "conv_1" };

describe("the table of ways in has all that the code has:", () => {
  test("each frame that has a schema", async () => {
    const known = Object.keys(frameDoors).sort();
    expect(known).toEqual(await framesWithSchema());
    for (const [name, { frame, schema }] of Object.entries(frameDoors)) {
      const [action, view] = name.split(" ");
      expect(frame(ids)).toMatchObject({ action, ...(view !== undefined && { view }) });
      expect(schema.safeParse(frame(ids)).error).toBeUndefined();
    }
  });

  test("each route of the WebSocket, deployed and local", () => {
    const deployed = readFileSync(join(root, "stacks", "socket.ts"), "utf8");
    const routes = matches(deployed, /\.route\("([^"]+)"/g).filter(
      (route) => !route.startsWith("$"),
    );
    expect(routes.sort()).toEqual(actions);
  });

  test("each function that checks a credential", () => {
    const found = [...functionSources]
      .filter(([, source]) => /lambda\w*\([^)]*\bcredentials\b/i.test(source))
      .map(([name]) => name);
    expect(found.sort()).toEqual(authenticating);
  });

  test("each function that answers frames", () => {
    const found = [...functionSources].filter(([, source]) => source.includes(" socketHandler("));
    expect(found.map(([name]) => name).sort()).toEqual(actions);
  });

  test("each operation that names a tenant or what is a tenant's", () => {
    const shapes = (operationSchema.options as Schema[]).flatMap(({ shape = {} }) => [shape]);
    const naming = shapes.filter((shape) => "turnId" in shape || "tenantId" in shape);
    const names = naming.flatMap(({ command }) => command?.value ?? []);
    expect(names).toEqual(["turn"]);
  });

  test("each route over HTTP", () => {
    const patterns = [...functionSources].flatMap(([name, source]) =>
      matches(source, /pattern: \/(.+?)\/[,\s]/g).map((pattern) => ({ name, pattern })),
    );
    expect(patterns.length).toBeGreaterThan(3);
    const missing = patterns.filter(
      ({ name, pattern }) =>
        !httpDoors.some((door) => door.of === name && new RegExp(pattern).test(door.path(ids))),
    );
    expect(missing).toEqual([]);
  });
});
