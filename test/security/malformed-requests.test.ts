import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as z from "zod";
import { type ErrorCode, errorCodes } from "../../events/errors.ts";
import { limits } from "../../events/limits.ts";
import { scopeNames } from "../../events/scopes.ts";
import { connect } from "../../functions/connect.ts";
import type { Deps } from "../../functions/lib/deps.ts";
import { ops } from "../../functions/ops.ts";
import { unrouted } from "../../functions/unrouted.ts";
import { context, type Stage, socketEvent, startStage } from "../functions/stage.ts";
import { HeardLogger } from "../support/heard-logger.ts";
import { body, cases, damaged, deep, isSound, mark, text, value } from "./arbitraries.ts";
import { frameDoors, httpDoors, say } from "./doors.ts";

/** What clients and operators send that nobody can understand: each is answered with a stable code. */

let stage: Stage;
let deps: Deps;
let connectionId: string;
const logger = new HeardLogger();

beforeAll(async () => {
  stage = await startStage();
  deps = { ...stage.deps, logger };
  connectionId = await stage.open("acme", scopeNames);
});
afterAll(() => stage.close());

const known = Object.keys(errorCodes) as ErrorCode[];
/** A fault of ours is no answer to somebody else's nonsense. */
const stable = known.filter((code) => code !== "internal" && code !== "unavailable");

const handlers = Object.fromEntries(
  Object.entries(frameDoors).map(([action, { handler }]) => [action, handler]),
);

describe("frames", () => {
  const ids = { turnId: "turn_none", conversationId: "conv_none" };

  test.each([...Object.keys(frameDoors), "$default"])("of %s", async (action) => {
    const { frame, schema } = frameDoors[action] ?? {
      frame: () => ({ action }),
      schema: z.never(),
    };
    const handler = handlers[action] ?? unrouted;
    await fc.assert(
      fc.asyncProperty(body(frame(ids)), async (sent) => {
        fc.pre(!isSound(schema, sent));
        const { code } = await say(stage, connectionId, handler(deps), sent);
        expect(stable).toContain(code);
      }),
      cases(action === "chat" ? 150 : action.startsWith("observe") ? 20 : 60),
    );
    expect(await stage.takeJobs()).toEqual([]);
    expect(await stage.commits()).toEqual([]);
  });

  test("that are too large, binary or very deep", async () => {
    const large = JSON.stringify({ action: "chat", requestId: "r", prompt: mark.repeat(6_000) });
    expect(Buffer.byteLength(large)).toBeGreaterThan(limits.frameBytes);
    for (const [action, handler] of Object.entries({ ...handlers, $default: unrouted })) {
      for (const sent of [large, "[".repeat(limits.frameBytes + 1), deep]) {
        expect((await say(stage, connectionId, handler(deps), sent)).code, action).toBe(
          "invalid_frame",
        );
      }
      const before = stage.framesTo(connectionId).length;
      const binary = { ...socketEvent(connectionId, "AAAA"), isBase64Encoded: true };
      await handler(deps)(binary, context);
      expect(stage.framesTo(connectionId).at(before)).toMatchObject({ code: "invalid_frame" });
    }
  });

  test("of a prompt that is as long as it may be, in any characters, are taken whole", async () => {
    const chat = handlers["chat"];
    for (const unit of ["\u0000", "\ud800", "\u{1f600}", "\ufffe", "\u202e"]) {
      const prompt = unit.repeat(300);
      const frame = { action: "chat", requestId: randomUUID(), prompt };
      expect((await say(stage, connectionId, chat?.(deps) as never, frame)).code).toBeUndefined();
      const [job] = await stage.takeJobs();
      expect(job?.messages.at(-1)?.content.toWellFormed()).toBe(prompt.toWellFormed());
    }
  });
});

test("handshakes", async () => {
  const name = fc.constantFrom("Sec-WebSocket-Protocol", "sec-websocket-protocol", "x");
  const part = fc.oneof(text, fc.constantFrom("axon.v1", "axon.auth.", ",", "axon.auth.%%"));
  const headers = fc.oneof(
    fc.dictionary(
      name,
      fc.array(part).map((parts) => parts.join(", ")),
    ),
    fc.constant(undefined),
  );
  await fc.assert(
    fc.asyncProperty(headers, async (sent) => {
      const event = { ...socketEvent("h1", ""), ...(sent !== undefined && { headers: sent }) };
      expect(await connect(deps)(event, context)).toEqual({ statusCode: 401 });
    }),
    cases(80),
  );
});

describe("requests over HTTP", () => {
  const ids = { turnId: "turn_none", conversationId: "conv_none" };
  const authorization = "Bearer key-of-acme";

  test.each(httpDoors.map((door) => [`${door.method} ${door.path(ids)}`, door] as const))(
    "%s",
    async (_, door) => {
      const query = fc.dictionary(fc.oneof(fc.constantFrom("limit", "before"), text), text);
      const path = fc.oneof(
        { weight: 3, arbitrary: fc.constant(door.path(ids)) },
        { weight: 1, arbitrary: text.map((more) => `${door.path(ids)}/${more}`) },
        { weight: 1, arbitrary: text.map((more) => `/${more}`) },
      );
      const method = fc.constantFrom(door.method, door.method, "DELETE", "TRACE", "");
      const sent = fc.option(body(door.body ?? { a: 1 }), { nil: undefined });
      await fc.assert(
        fc.asyncProperty(path, method, query, sent, async (path, method, query, body) => {
          const asked = { path, method, query, headers: { authorization } };
          const answer = await door.call(deps, { ...asked, ...(body !== undefined && { body }) });
          expect([undefined, ...stable]).toContain(answer.code);
        }),
        cases(80),
      );
    },
  );

  test("with credentials that are none", async () => {
    const headers = fc.record({
      authorization: fc.oneof(
        text,
        text.map((one) => `Bearer ${one}`),
        fc.constantFrom("Bearer", ""),
      ),
    });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...httpDoors), headers, async (door, headers) => {
        const asked = { method: door.method, path: door.path(ids), headers };
        expect((await door.call(deps, asked)).code).toBe("unauthenticated");
      }),
      cases(60),
    );
  });
});

test("payloads of operators", async () => {
  const sound = fc.constantFrom<Record<string, unknown>>(
    { command: "start", revision: "r2", steps: [10, 100], gates: {}, scale: {} },
    { command: "status", at: 1 },
    { command: "history", limit: 3 },
    { command: "turn", turnId: "turn_none" },
    { command: "keys-create", tenantId: "acme", name: "x", scopes: ["chat"] },
    { command: "keys-rotate", keyId: "0".repeat(16), graceMs: 1 },
    { command: "keys-revoke", keyId: "0".repeat(16) },
  );
  const payload = fc.oneof(
    { weight: 4, arbitrary: sound.chain(damaged) },
    { weight: 1, arbitrary: value },
    { weight: 1, arbitrary: fc.constantFrom(JSON.parse(deep), { command: JSON.parse(deep) }) },
  );
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(payload, async (sent) => {
      const answer = await ops(deps)(sent, context);
      if (answer.ok) return;
      refused++;
      expect(stable).toContain(answer.error.code);
    }),
    cases(120),
  );
  expect(refused).toBeGreaterThan(60);
});

test("none of its words is in a log line", () => {
  expect(logger.lines.length).toBeGreaterThan(500);
  expect(logger.lines.filter((line) => line.includes(mark))).toEqual([]);
});
