import { createCipheriv, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { environmentWithLinks } from "../../functions/lib/links.ts";

const password = "a&b#c$d^e<f>g-!@:/%";
const links = {
  EventsTable: { name: "axon-prod-events" },
  Redis: { host: "cfg.redis.aws", port: 6379, username: "default", password },
  Store: { host: "pg.aws", port: 5432, username: "postgres", password, database: "axon" },
  Socket: { url: "wss://socket", managementEndpoint: "https://socket/prod" },
  ApiKeys: { value: "[]" },
  Cluster: { name: "axon-prod", deployment: { region: "us-east-1" }, type: "sst.sst.Linkable" },
};
const App = JSON.stringify({ name: "axon", stage: "prod" });

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "axon-links-"));
  return () => rmSync(folder, { recursive: true });
});

/** As SST encrypts what it links to a function. */
function encrypted(content: string): Record<string, string> {
  const key = randomBytes(32);
  const cipher = createCipheriv("aes-256-gcm", key, Buffer.alloc(12));
  const file = join(folder, "resource.enc");
  writeFileSync(file, Buffer.concat([cipher.update(content), cipher.final(), cipher.getAuthTag()]));
  return { SST_RESOURCE_App: App, SST_KEY: key.toString("base64"), SST_KEY_FILE: file };
}

describe("links", () => {
  test.each([
    ["in the encrypted file", () => encrypted(JSON.stringify(links))],
    [
      "in variables",
      () =>
        Object.fromEntries(
          Object.entries(links).map(([name, value]) => [
            `SST_RESOURCE_${name}`,
            JSON.stringify(value),
          ]),
        ),
    ],
  ])("%s become the variables of the functions", (_, environment) => {
    const env = environmentWithLinks(environment());
    expect(env).toMatchObject({
      AXON_EVENTS_TABLE: "axon-prod-events",
      AXON_CONNECTIONS_ENDPOINT: "https://socket/prod",
      AXON_API_KEYS: "[]",
      AXON_CLUSTER: '{"name":"axon-prod","deployment":{"region":"us-east-1"}}',
    });
    const redis = new URL(env["REDIS_URL"] ?? "");
    expect(redis).toMatchObject({ protocol: "rediss+cluster:", host: "cfg.redis.aws:6379" });
    expect(decodeURIComponent(redis.password)).toBe(password);
    const database = new URL(env["DATABASE_URL"] ?? "");
    expect(database).toMatchObject({
      host: "pg.aws:5432",
      username: "postgres",
      pathname: "/axon",
    });
    expect(decodeURIComponent(database.password)).toBe(password);
    expect(database.searchParams.get("sslmode")).toBe("verify-full");
  });

  test("are what SST's own Resource reads", async () => {
    const env = encrypted(JSON.stringify(links));
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
    const { Resource } = await import("sst/resource");
    expect({ ...Resource }).toMatchObject(links);
    vi.unstubAllEnvs();
  });

  test("give way to a variable that is set", () => {
    const env = environmentWithLinks({
      ...encrypted(JSON.stringify(links)),
      REDIS_URL: "redis://other",
    });
    expect(env["REDIS_URL"]).toBe("redis://other");
    expect(env["AXON_EVENTS_TABLE"]).toBe("axon-prod-events");
  });

  test("are needed by nobody", () => {
    expect(environmentWithLinks({ REDIS_URL: "redis://here" })).toMatchObject({
      REDIS_URL: "redis://here",
    });
  });

  test.each([
    ["a file that is not there", () => ({ SST_KEY: "aaaa", SST_KEY_FILE: "/nowhere" })],
    ["another key", () => ({ ...encrypted("{}"), SST_KEY: randomBytes(32).toString("base64") })],
    ["no JSON in the file", () => encrypted(`{"secret": "${password}`)],
    ["no JSON in a variable", () => ({ SST_RESOURCE_Redis: `{"password": "${password}` })],
    ["a link of another shape", () => ({ SST_RESOURCE_Redis: JSON.stringify({ password }) })],
  ])("that cannot be read (%s) are told without what is in them", (_, environment) => {
    const failure = (() => {
      try {
        return environmentWithLinks(environment());
      } catch (error) {
        return error as Error;
      }
    })();
    expect(failure).toMatchObject({ code: "configuration" });
    expect(String((failure as Error).message)).toMatch(/SST_|link Redis|resource\.enc/);
    expect(String((failure as Error).message)).not.toContain(password);
  });
});
