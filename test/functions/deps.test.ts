import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { AxonError } from "../../events/errors.ts";
import { closeDeps, depsFromEnvironment } from "../../functions/lib/deps.ts";
import { isOutage, toAxonError } from "../../functions/lib/failures.ts";
import { failureForLog } from "../../functions/lib/request-log.ts";
import { parts } from "../support/parts.ts";
import { guide } from "./stage.ts";

const models = [{ ...guide, queueUrl: "http://127.0.0.1:1/jobs" }];
const environment = () => ({
  REDIS_URL: parts().redisUrl,
  DATABASE_URL: parts().databaseUrl,
  AXON_EVENTS_TABLE: "events",
  AXON_DATA_KEYS_TABLE: "data-keys",
  AXON_CONNECTIONS_ENDPOINT: "http://127.0.0.1:1",
  AXON_REPORTS_QUEUE_URL: "http://127.0.0.1:1/reports.fifo",
  AXON_MODELS: JSON.stringify(models),
  LOG_LEVEL: "SILENT",
});

beforeAll(() => {
  vi.stubEnv("AWS_REGION", "us-east-1");
  vi.stubEnv("AWS_ACCESS_KEY_ID", "local");
  vi.stubEnv("AWS_SECRET_ACCESS_KEY", "local");
  return () => vi.unstubAllEnvs();
});

describe("the environment", () => {
  test("makes dependencies that dial only when they are needed", async () => {
    const deps = depsFromEnvironment(environment());
    expect(deps.redis.status).toBe("wait");
    expect(await deps.redis.ping()).toBe("PONG");
    expect((await deps.database.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
    expect(deps.models.pick(undefined).revision).toBe("guide-1");
    await closeDeps(deps);
  });

  test("may describe models without the newer sampling values: they are neutral then", async () => {
    const { minP: _, repetitionPenalty: __, stop: ___, ...before } = guide.sampling;
    const described = models.map((model) => ({ ...model, sampling: before }));
    const deps = depsFromEnvironment({
      ...environment(),
      AXON_MODELS: JSON.stringify(described),
    });
    const neutral = { minP: 0, repetitionPenalty: 1, stop: [] };
    expect(deps.models.pick(undefined).sampling).toEqual({ ...before, ...neutral });
    await closeDeps(deps);
  });

  test("bounds what is in flight, by default and as it says", async () => {
    const byDefault = depsFromEnvironment(environment());
    expect(byDefault.admission).toEqual({
      ...{ tenantInFlight: 8, tenantHeld: 100, tenantWeights: {} },
      ...{ roomFactor: 2, defaultRoom: 32, maxWaitMs: 120_000 },
    });
    await closeDeps(byDefault);
    const deps = depsFromEnvironment({
      ...environment(),
      ...{ AXON_TENANT_IN_FLIGHT: "3", AXON_TENANT_WEIGHTS: '{"acme":2.5}' },
      ...{ AXON_DEFAULT_ROOM: "7", AXON_MAX_WAIT_MS: "9000" },
    });
    expect(deps.admission).toMatchObject({
      ...{ tenantInFlight: 3, tenantWeights: { acme: 2.5 }, defaultRoom: 7, maxWaitMs: 9_000 },
    });
    await closeDeps(deps);
  });

  test.each([
    ["REDIS_URL", { REDIS_URL: "localhost" }],
    ["DATABASE_URL", { DATABASE_URL: undefined }],
    ["AXON_EVENTS_TABLE", { AXON_EVENTS_TABLE: "" }],
    ["AXON_MODELS", { AXON_MODELS: "[" }],
    ["AXON_MODELS", { AXON_MODELS: "[]" }],
    ["AXON_MODELS", { AXON_MODELS: JSON.stringify([...models, ...models]) }],
    ["AXON_API_KEYS", { AXON_API_KEYS: '[{"sha256":"abc","tenantId":"t","userId":"u"}]' }],
    ["AXON_JWT_AUDIENCE", { AXON_JWKS_URL: "http://127.0.0.1:1", AXON_JWT_ISSUER: "i" }],
    ["AXON_RATE_BURST", { AXON_RATE_BURST: "none" }],
    ["AXON_TENANT_IN_FLIGHT", { AXON_TENANT_IN_FLIGHT: "0" }],
    ["AXON_TENANT_WEIGHTS", { AXON_TENANT_WEIGHTS: "acme=2" }],
    ["AXON_TENANT_WEIGHTS", { AXON_TENANT_WEIGHTS: '{"acme":0}' }],
    ["AXON_DEFAULT_ROOM", { AXON_DEFAULT_ROOM: "1.5" }],
    ["AXON_MAX_WAIT_MS", { AXON_MAX_WAIT_MS: "-1" }],
  ])("names %s when it is wrong", (name, wrong) => {
    expect(() => depsFromEnvironment({ ...environment(), ...wrong })).toThrow(name);
  });
});

describe("sendFrame", () => {
  test("goes through the callback API, and knows a connection that is gone", async () => {
    const posted: { path: string; body: string }[] = [];
    const gateway = createServer((request, response) => {
      let body = "";
      request.on("data", (chunk) => {
        body += chunk;
      });
      request.on("end", () => {
        const path = decodeURIComponent(request.url ?? "");
        posted.push({ path, body });
        if (!path.endsWith("/gone")) return void response.end();
        // The bare one is what a simpler gateway answers.
        const bare = path.includes("bare");
        response.writeHead(410, bare ? {} : { "x-amzn-errortype": "GoneException" }).end("{}");
      });
    });
    await new Promise<void>((resolve) => gateway.listen(0, "127.0.0.1", resolve));
    const { port } = gateway.address() as AddressInfo;
    const deps = depsFromEnvironment({
      ...environment(),
      AXON_CONNECTIONS_ENDPOINT: `http://127.0.0.1:${port}`,
    });
    const frame = { type: "rewind", turnId: "t1", to: 0 } as const;
    expect(await deps.sendFrame("here=", frame)).toBe("sent");
    expect(await deps.sendFrame("is/gone", frame)).toBe("gone");
    expect(await deps.sendFrame("bare/gone", frame)).toBe("gone");
    expect(posted[0]).toEqual({ path: "/@connections/here=", body: JSON.stringify(frame) });
    await closeDeps(deps);
    gateway.closeAllConnections();
    gateway.close();
  });
});

describe("a failure", () => {
  const failure = (message: string, more: object = {}) => Object.assign(new Error(message), more);
  test.each([
    ["a refused connection", failure("connect", { code: "ECONNREFUSED" })],
    ["one that broke, wrapped", new Error("outer", { cause: failure("x", { code: "EPIPE" }) })],
    ["too many addresses to try", failure("", { name: "AggregateError", code: "ECONNREFUSED" })],
    ["a service that says 503", failure("no", { $metadata: { httpStatusCode: 503 } })],
    ["a service that throttles", failure("slow down", { name: "ThrottlingException" })],
    ["Redis that gave up", failure("reached", { name: "MaxRetriesPerRequestError" })],
    ["Redis that is gone", failure("Connection is closed.")],
    ["Redis that starts", failure("LOADING Redis is loading", { name: "ReplyError" })],
    ["PostgreSQL that stops", failure("terminating", { code: "57P01" })],
    ["PostgreSQL that is full", failure("too many clients", { code: "53300" })],
    ["PostgreSQL that is cut off", failure("Connection terminated unexpectedly")],
    ["PostgreSQL that does not answer", failure("timeout exceeded when trying to connect")],
  ])("of %s is an outage", (_, error) => {
    expect(isOutage(error)).toBe(true);
    expect(toAxonError(error)).toMatchObject({ code: "unavailable", cause: error });
  });

  test.each([
    ["a mistake in the code", new TypeError("x is not a function")],
    ["a wrong query", failure("relation does not exist", { code: "42P01" })],
    ["a wrong type in Redis", failure("WRONGTYPE", { name: "ReplyError" })],
    ["a call without rights", failure("denied", { $metadata: { httpStatusCode: 403 } })],
    ["something that is no error", "oops"],
  ])("of %s is a fault of ours", (_, error) => {
    expect(isOutage(error)).toBe(false);
    expect(toAxonError(error)).toMatchObject({ code: "internal", cause: error });
  });

  test("that is a refusal already stays what it is", () => {
    const refusal = new AxonError("unknown_model", "There is no such model.");
    expect(toAxonError(refusal)).toBe(refusal);
  });
});

describe("a failure in a log line", () => {
  test("says what and where, and whose fault it was", () => {
    const cause = Object.assign(new Error("connect"), { code: "ECONNREFUSED" });
    const line = failureForLog(new Error("It did not work.", { cause }));
    expect(line).toMatchObject({
      name: "Error",
      message: "It did not work.",
      cause: { message: "connect", code: "ECONNREFUSED" },
    });
    expect(JSON.stringify(line)).toContain("deps.test.ts");
  });

  test("never says what the failed call was about", () => {
    const secret = "my-secret-words";
    const syntax = (() => {
      try {
        return JSON.parse(secret);
      } catch (error) {
        return error;
      }
    })();
    for (const error of [
      syntax,
      Object.assign(new Error("READONLY"), { command: { name: "set", args: ["key", secret] } }),
      Object.assign(new Error("violates a check"), { detail: `Failing row contains (${secret})` }),
      new Error("outer", { cause: syntax }),
      secret,
    ]) {
      expect(JSON.stringify(failureForLog(error))).not.toContain(secret);
    }
  });
});
