import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";

const root = join(import.meta.dirname, "..", "..");
const committed = readFileSync(join(root, "docs", "asyncapi.json"), "utf8");

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "axon-asyncapi-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

test("docs/asyncapi.json is what the schemas give: npm run build:asyncapi", () => {
  const file = join(folder, "asyncapi.json");
  execFileSync(process.execPath, [join(root, "docs", "build-asyncapi.ts"), file]);
  expect(readFileSync(file, "utf8")).toBe(committed);
});

/** The parts of AsyncAPI 3.0.0 that it uses (https://www.asyncapi.com/docs/reference/specification/v3.0.0). */
const reference = z.strictObject({ $ref: z.string().startsWith("#/") });
const documentSchema = z.strictObject({
  asyncapi: z.literal("3.0.0"),
  info: z.strictObject({
    ...{ title: z.string(), version: z.string(), description: z.string() },
    license: z.strictObject({ name: z.string() }),
  }),
  defaultContentType: z.literal("application/json"),
  channels: z.record(
    z.string(),
    z.strictObject({
      ...{ address: z.string(), description: z.string() },
      messages: z.record(z.string(), reference),
      parameters: z.record(z.string(), z.strictObject({ description: z.string() })).optional(),
      bindings: z.record(z.string(), z.record(z.string(), z.unknown())).optional(),
    }),
  ),
  operations: z.record(
    z.string(),
    z.strictObject({
      ...{ action: z.enum(["send", "receive"]), channel: reference, summary: z.string() },
      messages: z.array(reference).min(1),
    }),
  ),
  components: z.strictObject({
    messages: z.record(
      z.string(),
      z.strictObject({
        ...{ name: z.string(), summary: z.string() },
        payload: z.looseObject({ $schema: z.string() }),
      }),
    ),
  }),
});

test("it is an AsyncAPI 3 document, and every reference leads somewhere", () => {
  const document = documentSchema.parse(JSON.parse(committed));
  const follow = ($ref: string): unknown =>
    $ref
      .slice(2)
      .split("/")
      .reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], document);
  const channels = Object.values(document.channels);
  const operations = Object.values(document.operations);
  const references = [
    ...channels.flatMap(({ messages }) => Object.values(messages)),
    ...operations.flatMap(({ channel, messages }) => [channel, ...messages]),
  ];
  expect(references.length).toBeGreaterThan(20);
  for (const { $ref } of references) expect(follow($ref), $ref).toBeDefined();
  // Each parameter of an address is described, and no other.
  for (const { address, parameters = {} } of channels) {
    const named = [...address.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
    expect(Object.keys(parameters)).toEqual(named);
  }
});
