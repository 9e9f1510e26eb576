import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { text as readAll } from "node:stream/consumers";
import type { Context } from "aws-lambda";
import type * as z from "zod";
import { cancelFrameSchema, chatFrameSchema, resumeFrameSchema } from "../../events/frames.ts";
import { observeFrameSchema, operateFrameSchema } from "../../events/observations.ts";
import type { Scope } from "../../events/scopes.ts";
import { cancel } from "../../functions/cancel.ts";
import { chat } from "../../functions/chat.ts";
import { completions } from "../../functions/completions.ts";
import { history } from "../../functions/history.ts";
import type { Deps } from "../../functions/lib/deps.ts";
import type { SocketHandler } from "../../functions/lib/socket.ts";
import { observe } from "../../functions/observe.ts";
import { operate } from "../../functions/operate.ts";
import { resume } from "../../functions/resume.ts";
import { context, httpEvent, type Stage, socketEvent } from "../functions/stage.ts";

/**
 * Every way in: what it needs, and what it is asked. `test/security/doors.test.ts` fails where the code has
 * a way in that is not here.
 */

/** Ids of one tenant's things. */
export interface Ids {
  turnId: string;
  conversationId: string;
}

/** How a door has answered. */
export interface Answer {
  /** Undefined where it let the caller in. */
  code: string | undefined;
  /** All of what was sent back. */
  text: string;
}

interface Door {
  scope: Scope;
  /** That a thing of another tenant is answered with, as one that does not exist; none where it names none. */
  foreign: string | undefined;
}

export interface FrameDoor extends Door {
  schema: z.ZodType;
  handler: (deps: Deps) => SocketHandler;
  frame: (ids: Ids) => Record<string, unknown>;
}

const observing = (
  view: string,
  foreign: string | undefined,
  fields: (ids: Ids) => object = () => ({}),
): FrameDoor => ({
  ...{ scope: "ops:read", foreign, schema: observeFrameSchema, handler: observe },
  frame: (ids) => ({ action: "observe", requestId: randomUUID(), view, ...fields(ids) }),
});

/** By the value of `action`, and of what else tells one from another. */
export const frameDoors: Record<string, FrameDoor> = {
  chat: {
    ...{ scope: "chat", foreign: "conversation_not_found" },
    ...{ schema: chatFrameSchema, handler: chat },
    frame: ({ conversationId }) => ({
      ...{ action: "chat", requestId: randomUUID(), prompt: "Tell me.", conversationId },
    }),
  },
  cancel: {
    ...{ scope: "chat", foreign: "turn_not_found" },
    ...{ schema: cancelFrameSchema, handler: cancel },
    frame: ({ turnId }) => ({ action: "cancel", turnId }),
  },
  resume: {
    ...{ scope: "chat", foreign: "turn_not_found" },
    ...{ schema: resumeFrameSchema, handler: resume },
    frame: ({ turnId }) => ({ action: "resume", turnId, after: 0 }),
  },
  "observe overview": observing("overview", undefined),
  "observe groups": observing("groups", undefined),
  "observe queues": observing("queues", undefined),
  "observe turns": observing("turns", undefined),
  "observe turn": observing("turn", "turn_not_found", ({ turnId }) => ({ turnId })),
  "observe rollout": observing("rollout", undefined),
  "observe log": observing("log", undefined, ({ turnId }) => ({ stream: `turn/${turnId}` })),
  "observe fold": observing("fold", "not_found", ({ conversationId }) => ({
    stream: `conversation/${conversationId}`,
  })),
  "observe series": observing("series", undefined, () => ({ windowMs: 60_000, buckets: 2 })),
  operate: {
    ...{ scope: "ops:write", foreign: "turn_not_found" },
    ...{ schema: operateFrameSchema, handler: operate },
    frame: ({ turnId }) => ({
      ...{ action: "operate", requestId: randomUUID(), operation: { command: "turn", turnId } },
    }),
  },
};

export interface HttpDoor extends Door {
  /** The file in functions/. */
  of: string;
  method: string;
  path: (ids: Ids) => string;
  body?: Record<string, unknown>;
  /** What its owner is answered with, with the scope: of a door whose body is to be refused behind it. */
  granted?: string;
  call: (deps: Deps, request: HttpAsk) => Promise<Answer>;
}

interface HttpAsk {
  method: string;
  path: string;
  headers: Record<string, string>;
  query?: Record<string, string>;
  body?: string;
}

const callHistory: HttpDoor["call"] = async (deps, { path, method, headers, query = {} }) => {
  const { statusCode = 0, body = "" } = await history(deps)(
    httpEvent(path, { method, headers, query }),
    context,
  );
  return answerOf(statusCode, body);
};

const historyDoor = (path: HttpDoor["path"], foreign: string | undefined): HttpDoor => ({
  ...{ of: "history", scope: "history", method: "GET", path, foreign, call: callHistory },
});

/** OpenAI's codes for what has a code of ours. */
const ownCodes: Record<string, string> = {
  invalid_api_key: "unauthenticated",
  insufficient_permissions: "forbidden",
  model_not_found: "unknown_model",
  rate_limit_exceeded: "rate_limited",
};

/** Nobody runs turns here: what waits for an answer gets none. 10 s are kept for the end of an invocation. */
const hurried: Context = { ...context, getRemainingTimeInMillis: () => 10_020 };

const callCompletions: HttpDoor["call"] = async (deps, { path, method, headers, body }) => {
  const event = { ...httpEvent(path, { method, headers }), ...(body !== undefined && { body }) };
  const answer = await completions(deps)(event, hurried);
  const text = typeof answer.body === "string" ? answer.body : await readAll(answer.body);
  if (answer.statusCode < 400) return { code: undefined, text };
  const { code } = (JSON.parse(text) as { error: { code: string } }).error;
  // A turn that it has asked for, and that nobody runs.
  if (code === "timeout") return { code: undefined, text };
  // It has a code for each way in which a parameter can be wrong.
  return { code: ownCodes[code] ?? (answer.statusCode === 400 ? "invalid_field" : code), text };
};

const apiDoor = (
  path: HttpDoor["path"],
  more: Partial<HttpDoor> & Pick<HttpDoor, "method">,
): HttpDoor => ({
  ...{ of: "completions", scope: "chat", foreign: undefined, path, call: callCompletions },
  ...more,
});

/** Of a model that there is not: a turn would have to be waited for. */
const model = "none";
const messages = [{ role: "user", content: "Tell me." }];

export const httpDoors: readonly HttpDoor[] = [
  apiDoor(() => "/v1/chat/completions", {
    ...{ method: "POST", granted: "unknown_model", body: { model, messages, temperature: 1 } },
  }),
  apiDoor(() => "/v1/completions", {
    ...{ method: "POST", granted: "unknown_model", body: { model, prompt: "One", max_tokens: 3 } },
  }),
  apiDoor(({ turnId }) => `/v1/chat/completions/${turnId}`, {
    ...{ method: "GET", foreign: "turn_not_found" },
  }),
  apiDoor(() => "/v1/models", { method: "GET" }),
  apiDoor(() => "/v1/models/guide", { method: "GET" }),
  historyDoor(() => "/api/models", undefined),
  historyDoor(() => "/api/conversations", undefined),
  historyDoor(() => "/api/export", undefined),
  historyDoor(
    ({ conversationId }) => `/api/conversations/${conversationId}`,
    "conversation_not_found",
  ),
  historyDoor(({ turnId }) => `/api/turns/${turnId}/events`, "turn_not_found"),
];

/** Functions that show a credential's owner something, or take something from it. */
export const authenticating = ["connect", ...new Set(httpDoors.map(({ of }) => of))].sort();

function answerOf(status: number, text: string): Answer {
  const code = status < 400 ? undefined : (JSON.parse(text) as { code: string }).code;
  return { code, text };
}

/** Says a frame on a connection, and waits for what comes back. */
export async function say(
  stage: Stage,
  connectionId: string,
  handler: SocketHandler,
  body: unknown,
): Promise<Answer> {
  const before = stage.framesTo(connectionId).length;
  const result = await handler(socketEvent(connectionId, body), context);
  if (result.statusCode !== 200) throw new Error(`It answered ${result.statusCode}.`);
  const frames = stage.framesTo(connectionId).slice(before);
  const refusal = frames.find((frame) => frame.type === "error");
  return { code: refusal?.code, text: JSON.stringify(frames) };
}

const functionsFolder = join(import.meta.dirname, "..", "..", "functions");

/** The sources of functions/, by the function's name. */
export const functionSources = new Map(
  readdirSync(functionsFolder)
    .filter((name) => name.endsWith(".ts"))
    .map((name) => [name.slice(0, -3), readFileSync(join(functionsFolder, name), "utf8")]),
);
