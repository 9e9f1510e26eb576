import { randomUUID } from "node:crypto";
import type OpenAI from "openai";
import type { APIError } from "openai";
import {
  afterAll,
  beforeAll,
  beforeEach,
  describe,
  expect,
  onTestFinished,
  test,
  vi,
} from "vitest";
import { AxonError } from "../../events/errors.ts";
import { turnChannel, turnKey, turnReadKey, turnTokensKey } from "../../events/redis-keys.ts";
import { completions } from "../../functions/completions.ts";
import { history } from "../../functions/history.ts";
import { requestLog } from "../../functions/lib/request-log.ts";
import { sendMissingJob } from "../../functions/lib/turns/jobs.ts";
import { project } from "../../functions/project.ts";
import { report } from "../../functions/report.ts";
import { eventually } from "../support/eventually.ts";
import { emptyAll } from "../support/redis-keyspace.ts";
import { type ApiStage, startApiStage } from "./api-stage.ts";
import {
  context,
  endReport,
  guide,
  httpEvent,
  reportsEvent,
  startedReport,
  tableEvent,
} from "./stage.ts";

let stage: ApiStage;
let openai: OpenAI;
beforeAll(async () => {
  stage = await startApiStage();
  openai = stage.client();
});
afterAll(() => stage.close());
beforeEach(async () => void (await stage.takeJobs()));

type Chunk = OpenAI.ChatCompletionChunk;
type Body = OpenAI.ChatCompletionCreateParamsNonStreaming;

const messages: Body["messages"] = [{ role: "user", content: "Hello" }];
const asked = { model: guide.model, messages };
const textOf = (chunks: readonly Chunk[]) =>
  chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("");

async function collect<T>(stream: AsyncIterable<T>, into: T[] = []): Promise<T[]> {
  for await (const chunk of stream) into.push(chunk);
  return into;
}

/** The events as they are sent, with their ids. */
const eventsIn = (text: string) =>
  text
    .trim()
    .split("\n\n")
    .map((event) => ({
      id: /^id: (.*)$/m.exec(event)?.[1],
      data: /^data: (.*)$/m.exec(event)?.[1] ?? "",
    }));

/** An answer that is being read. */
function reading(headers: Record<string, string> = {}) {
  let text = "";
  const done = fetch(`${stage.url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: "Bearer key-of-acme", ...headers },
    body: JSON.stringify({ ...asked, stream: true }),
  }).then(async ({ body }) => {
    for await (const part of (body ?? new ReadableStream()).pipeThrough(new TextDecoderStream())) {
      text += part;
    }
    return eventsIn(text);
  });
  return { heard: (words: string) => eventually(() => text.includes(words)), done };
}

const contentOf = (events: readonly { data: string }[]) =>
  events
    .filter(({ data }) => data.startsWith("{"))
    .map(({ data }) => (JSON.parse(data) as Chunk).choices[0]?.delta.content ?? "")
    .join("");

/** How many connections to Redis listen to what is said of a turn. */
async function readersOf(turnId: string): Promise<number> {
  const reply = await stage.deps.redis.call("PUBSUB", "NUMSUB", turnChannel(turnId));
  return (reply as [channel: string, count: number])[1];
}

describe("a streamed answer", () => {
  test("comes token by token, with its end and what it has cost", async () => {
    const { data, response } = await openai.chat.completions
      .create({ ...asked, stream: true, stream_options: { include_usage: true } })
      .withResponse();
    const chunks: Chunk[] = [];
    const done = collect(data, chunks);
    const leader = await stage.lead(await stage.nextJob());
    for (const [i, text] of ["One", " two", "", " three"].entries()) {
      await leader.say(i + 1, text);
      if (text !== "") await eventually(() => textOf(chunks).endsWith(text));
    }
    await leader.end(4, { finishReason: "length" });
    await done;
    expect(textOf(chunks)).toBe("One two three");
    expect(chunks.map(({ choices }) => choices[0]?.delta)).toMatchObject([
      { role: "assistant", content: "" },
      ...[{ content: "One" }, { content: " two" }, { content: " three" }, {}],
      ...[undefined],
    ]);
    expect(chunks.at(-2)?.choices[0]?.finish_reason).toBe("length");
    expect(chunks.at(-1)).toMatchObject({
      ...{ object: "chat.completion.chunk", model: "guide", system_fingerprint: "guide-1" },
      usage: { prompt_tokens: 5, completion_tokens: 4, total_tokens: 9 },
    });
    expect(new Set(chunks.map(({ id }) => id))).toEqual(
      new Set([response.headers.get("x-request-id")]),
    );
    expect(response.headers.get("x-ratelimit-remaining-requests")).toBe("9999");
  });

  test("goes on after the last event that a client has, without a word lost or repeated", async () => {
    const first = await openai.chat.completions.create({ ...asked, stream: true });
    const job = await stage.nextJob();
    const leader = await stage.lead(job);
    await leader.say(1, "One", " two");
    for await (const chunk of first) if (textOf([chunk]) !== "") break;
    await leader.say(3, " three");
    const id = `${job.turnId}:2:${leader.epoch}:7`;
    const rest = reading({ "last-event-id": id }).done;
    await leader.say(4, " four");
    await leader.end(4);
    const events = await rest;
    expect(contentOf(events)).toBe(" three four");
    expect(events.at(-2)?.id).toBe(`${job.turnId}:4:${leader.epoch}:18`);
    expect(events.at(-1)?.data).toBe("[DONE]");
    // Once the stream has expired the log has the rest.
    await report(stage.deps)(
      reportsEvent(
        startedReport(job.turnId, leader.epoch),
        endReport(job.turnId, "One two three four", "completed", leader.epoch),
      ),
      context,
    );
    await stage.deps.redis.del(turnKey(job.turnId), turnTokensKey(job.turnId));
    expect(contentOf(await reading({ "last-event-id": id }).done)).toBe(" three four");
    const whole = await openai.chat.completions.retrieve(job.turnId);
    expect(whole.choices[0]?.message.content).toBe("One two three four");
  });

  test("goes on when its stream is lost and the same words are written anew", async () => {
    const { done, heard } = reading();
    const job = await stage.nextJob();
    const leader = await stage.lead(job);
    await leader.say(1, "One", " two");
    await heard("One two");
    await emptyAll(stage.deps.redis);
    const next = await stage.lead(job, "next");
    await next.say(1, "One");
    await next.say(2, " two", " three");
    await next.end(3);
    expect(contentOf(await done)).toBe("One two three");
  });

  test("breaks off when other words are written in its place, and the answer can be read anew", async () => {
    const { done, heard } = reading();
    const job = await stage.nextJob();
    const leader = await stage.lead(job);
    await leader.say(1, "One", " two");
    await heard("One two");
    await emptyAll(stage.deps.redis);
    const next = await stage.lead(job, "next");
    await next.say(1, "One", " zwei");
    await next.end(2);
    const events = await done;
    expect(contentOf(events.slice(0, -1))).toBe("One two");
    expect(JSON.parse(events.at(-1)?.data ?? "")).toMatchObject({
      error: { code: "stream_rewound", message: expect.stringContaining(`/${job.turnId}`) },
    });
    const whole = await openai.chat.completions.retrieve(job.turnId);
    expect(whole.choices[0]?.message.content).toBe("One zwei");
  });

  test("cannot go on after a token that it has not got any more", async () => {
    const { done, heard } = reading();
    const job = await stage.nextJob();
    const leader = await stage.lead(job);
    await leader.say(1, "One", " two", " three");
    await heard("three");
    await emptyAll(stage.deps.redis);
    const next = await stage.lead(job, "next");
    await next.say(1, "Eins");
    await next.end(1);
    const id = (await done).findLast((event) => event.data.includes("three"))?.id ?? "";
    const resumed = await reading({ "last-event-id": id }).done;
    expect(JSON.parse(resumed.at(-1)?.data ?? "")).toMatchObject({
      error: { code: "stream_rewound" },
    });
  });

  test("is watched while it is read, and not any more when its reader has gone", async () => {
    // Where faults are told, of which this is none.
    const told = vi.spyOn(console, "error").mockReturnValue();
    onTestFinished(() => told.mockRestore());
    const stream = await openai.chat.completions.create({ ...asked, stream: true });
    const job = await stage.nextJob();
    const leader = await stage.lead(job);
    await leader.say(1, "One");
    const { redis } = stage.deps;
    const isMarked = async () => (await redis.exists(turnReadKey(job.turnId))) === 1;
    const readers = () => readersOf(job.turnId);
    await eventually(isMarked);
    await redis.del(turnReadKey(job.turnId));
    await eventually(isMarked);
    expect(await readers()).toBe(1);
    for await (const chunk of stream) if (textOf([chunk]) !== "") break;
    await eventually(async () => (await readers()) === 0);
    expect(told).not.toHaveBeenCalled();
  });

  test("that nobody ever begins to read is not listened to", async () => {
    const { body, headers } = await completions(stage.deps)(
      {
        ...httpEvent("/v1/chat/completions", { method: "POST" }),
        body: JSON.stringify({ ...asked, stream: true }),
      },
      context,
    );
    const turnId = headers["x-request-id"] ?? "";
    await eventually(async () => (await readersOf(turnId)) === 1);
    if (typeof body !== "string") body.destroy();
    await eventually(async () => (await readersOf(turnId)) === 0);
  });

  test("shows that it lives while nothing is said", async () => {
    const startedAt = Date.now();
    const now = () => startedAt + (Date.now() - startedAt) * 20;
    const beside = await stage.beside({ now });
    const response = await beside.chat.completions.create({ ...asked, stream: true }).asResponse();
    const leader = await stage.lead(await stage.nextJob());
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    await leader.end(0);
    expect(await response.text()).toContain("\n\n: keep-alive\n\n");
  });
});

describe("a whole answer", () => {
  test("is of what the caller says was said, and drawn as asked", async () => {
    const answer = openai.chat.completions.create({
      model: "guide",
      messages: [
        { role: "developer", content: "Be brief." },
        { role: "user", content: "Hi" },
        { role: "assistant", content: "Hello!", refusal: null },
        {
          role: "user",
          content: [
            { type: "text", text: "And " },
            { type: "text", text: "now?" },
          ],
        },
      ],
      ...{ max_completion_tokens: 7, temperature: 0.1, top_p: 0.2, seed: 3, stop: "\n" },
      ...{ n: 1, user: "somebody", metadata: { a: "b" }, presence_penalty: 0, logprobs: null },
      ...{ top_k: 4, min_p: 0.3, repetition_penalty: 1.2 },
    });
    const job = await stage.nextJob();
    expect(job.messages).toEqual([
      { role: "system", content: "Be brief." },
      { role: "user", content: "Hi" },
      { role: "assistant", content: "Hello!" },
      { role: "user", content: "And now?" },
    ]);
    expect(job.promptFormat).toBeUndefined();
    expect(job.sampling).toEqual({
      ...{ maxTokens: 7, temperature: 0.1, topP: 0.2, topK: 4, minP: 0.3 },
      ...{ repetitionPenalty: 1.2, stop: ["\n"], seed: 3 },
    });
    const leader = await stage.lead(job);
    await leader.say(1, "Fine", ".");
    await leader.end(2);
    expect(await answer).toMatchObject({
      ...{ id: job.turnId, object: "chat.completion", model: "guide" },
      choices: [
        {
          message: { role: "assistant", content: "Fine.", refusal: null },
          finish_reason: "stop",
        },
      ],
      usage: { prompt_tokens: 5, completion_tokens: 2, total_tokens: 7 },
    });
  });

  test("has the model's own instructions where the caller gives none", async () => {
    const answer = openai.chat.completions.create(asked);
    const job = await stage.nextJob();
    expect(job.messages).toEqual([{ role: "system", content: guide.systemPrompt }, ...messages]);
    await (await stage.lead(job)).end(0);
    expect((await answer).choices[0]?.message.content).toBe("");
  });

  test("of a raw prompt is asked for without a word around it", async () => {
    const answer = openai.completions.create({ model: "guide", prompt: "Once upon" });
    const job = await stage.nextJob();
    expect(job).toMatchObject({
      ...{ promptFormat: "raw", messages: [{ role: "user", content: "Once upon" }] },
    });
    const leader = await stage.lead(job);
    await leader.say(1, " a time");
    await leader.end(1);
    expect(await answer).toMatchObject({
      ...{ object: "text_completion", choices: [{ text: " a time", finish_reason: "stop" }] },
    });
  });

  test("is the same turn when it is asked for again under the same key", async () => {
    const headers = { "Idempotency-Key": `"${randomUUID()}" of any kind` };
    const first = openai.chat.completions.create(asked, { headers });
    const job = await stage.nextJob();
    const leader = await stage.lead(job);
    const second = openai.chat.completions.create(asked, { headers });
    await leader.say(1, "Yes.");
    await leader.end(1);
    expect(await second).toEqual(await first);
    expect(await stage.takeJobs()).toEqual([]);
    const other = openai.chat.completions.create(
      { ...asked, messages: [{ role: "system", content: "No." }, ...messages] },
      { headers },
    );
    await expect(other).rejects.toMatchObject({ status: 400, param: "Idempotency-Key" });
  });

  test.each([
    ["cancelled", undefined, 410, "turn_cancelled"],
    ["failed", { code: "internal", message: "It broke." }, 500, "internal"],
    ["failed", { code: "prompt_too_long", message: "Shorten it." }, 400, "context_length_exceeded"],
  ] as const)("that is %s (%j) is an error", async (finishReason, error, status, code) => {
    const answer = expect(openai.chat.completions.create(asked)).rejects.toMatchObject({
      status,
      code,
    });
    const leader = await stage.lead(await stage.nextJob());
    await leader.say(1, "One");
    await leader.end(1, { finishReason, ...(error && { error }) });
    await answer;
  });

  test("that takes longer than a function may run goes on, and the error says where", async () => {
    const handle = completions(stage.deps);
    const left = { ...context, getRemainingTimeInMillis: () => 10_300 };
    const event = {
      ...httpEvent("/v1/chat/completions", { method: "POST" }),
      body: JSON.stringify(asked),
    };
    const { statusCode, body, headers } = await handle(event, left);
    expect(statusCode).toBe(504);
    const turnId = headers["x-request-id"] ?? "";
    expect(JSON.parse(String(body))).toMatchObject({
      error: { code: "timeout", message: expect.stringContaining(turnId) },
    });
    const leader = await stage.lead(await stage.nextJob());
    await leader.say(1, "Late.");
    await leader.end(1);
    const late = await openai.chat.completions.retrieve(turnId);
    expect(late.choices[0]?.message.content).toBe("Late.");
  });
});

test("whoever sends a job again sends the same context", async () => {
  const given: Body["messages"] = [{ role: "system", content: "Be brief." }, ...messages];
  const answer = openai.chat.completions.create({ ...asked, messages: given });
  const raw = openai.completions.create({ model: "guide", prompt: "Once" });
  const jobs = [await stage.nextJob(), await stage.nextJob()];
  for (const job of jobs) {
    const log = requestLog(stage.deps.logger, {}, { measure: () => {} });
    expect(await sendMissingJob(stage.deps, job, log, { ignoreMarker: true })).toBe("sent");
    expect(await stage.nextJob()).toEqual(job);
    await (await stage.lead(job)).end(0);
  }
  await Promise.all([answer, raw]);
});

test("a conversation of the API is not in the list of those of people", async () => {
  const answer = openai.chat.completions.create(asked);
  const job = await stage.nextJob();
  await (await stage.lead(job)).end(0);
  await answer;
  await project(stage.deps)(tableEvent(await stage.commits()), context);
  const list = async (query: Record<string, string>) => {
    const { body = "" } = await history(stage.deps)(
      httpEvent("/api/conversations", { query }),
      context,
    );
    return (JSON.parse(body) as { conversations: { id: string }[] }).conversations;
  };
  expect(await list({})).toEqual([]);
  expect((await list({ origin: "api" })).map(({ id }) => id)).toContain(job.conversationId);
});

test("the models are those of the catalog", async () => {
  const { data } = await openai.models.list();
  expect(data.map(({ id }) => id)).toEqual(["guide", "other"]);
  expect(await openai.models.retrieve("other")).toMatchObject({ id: "other", object: "model" });
});

describe("what is refused", () => {
  const refused = async (make: () => Promise<unknown>): Promise<APIError> => {
    const error = await make().then(
      () => undefined,
      (caught: unknown) => caught,
    );
    expect(error).toBeDefined();
    return error as APIError;
  };
  const chat = (more: object) => openai.chat.completions.create({ ...asked, ...more } as Body);
  const long = "é".repeat(100_000);

  test.each<[string, object, string, string, number?]>([
    ["tools", { tools: [] }, "tools", "unsupported_parameter"],
    [
      "a format",
      { response_format: { type: "json_object" } },
      "response_format.type",
      "unsupported_value",
    ],
    ["two answers", { n: 2 }, "n", "unsupported_value"],
    ["a penalty", { frequency_penalty: 0.5 }, "frequency_penalty", "unsupported_value"],
    ["what nobody knows", { frobnicate: 1 }, "frobnicate", "unsupported_parameter"],
    ["a temperature out of bounds", { temperature: 3 }, "temperature", "invalid_value"],
    ["too many tokens", { max_tokens: 100_000 }, "max_tokens", "invalid_value"],
    ["no messages", { messages: [] }, "messages", "invalid_value"],
    [
      "an answer for a prompt",
      { messages: [{ role: "assistant", content: "Hi" }] },
      "messages",
      "invalid_value",
    ],
    [
      "a tool's message",
      { messages: [{ role: "tool", content: "x" }] },
      "messages[0].role",
      "unsupported_value",
    ],
    [
      "an image",
      { messages: [{ role: "user", content: [{ type: "image_url" }] }] },
      "messages[0].content",
      "invalid_value",
    ],
    [
      "more than fits",
      { messages: [{ role: "user", content: long }] },
      "messages",
      "prompt_too_long",
      413,
    ],
    ["a model that is not there", { model: "gpt" }, "model", "model_not_found", 404],
  ])("%s", async (_name, more, param, code, status = 400) => {
    const error = await refused(() => chat(more));
    expect(error).toMatchObject({ status, param, code, type: "invalid_request_error" });
    expect(await stage.takeJobs()).toEqual([]);
  });

  test("a list of tokens, and a body that is no JSON", async () => {
    const prompt = [1, 2, 3];
    const error = await refused(() => openai.completions.create({ model: "guide", prompt }));
    expect(error).toMatchObject({ status: 400, param: "prompt", code: "invalid_value" });
    const headers = { authorization: "Bearer key-of-acme" };
    const response = await fetch(`${stage.url}/v1/completions`, {
      method: "POST",
      headers,
      body: "{",
    });
    expect(response.status).toBe(400);
  });

  test("who is not known (401), and who may not chat (403)", async () => {
    const stranger = stage.client({ key: "nobody" });
    expect(await refused(() => stranger.chat.completions.create(asked))).toMatchObject({
      ...{ status: 401, code: "invalid_api_key", type: "authentication_error" },
    });
    const reader = await stage.beside({
      authenticate: async () => ({ tenantId: "acme", userId: "u", scopes: ["history"] }),
    });
    expect(await refused(() => reader.models.list() as unknown as Promise<unknown>)).toMatchObject({
      ...{ status: 403, code: "insufficient_permissions" },
    });
  });

  test("another tenant's turn (404), and a route that is none (404)", async () => {
    const answer = openai.chat.completions.create(asked);
    const job = await stage.nextJob();
    await (await stage.lead(job)).end(0);
    await answer;
    const rival = stage.client({ key: "key-of-rival" });
    expect(await refused(() => rival.chat.completions.retrieve(job.turnId))).toMatchObject({
      ...{ status: 404, code: "turn_not_found" },
    });
    const headers = { "last-event-id": `${job.turnId}:0:0:0` };
    expect(
      await refused(() => rival.chat.completions.create({ ...asked, stream: true }, { headers })),
    ).toMatchObject({ status: 404, code: "turn_not_found" });
    expect(
      await refused(() => openai.embeddings.create({ model: "guide", input: "x" })),
    ).toMatchObject({
      ...{ status: 404, code: "not_found" },
    });
  });

  test("who asks too often (429), with the time to wait", async () => {
    const limited = await stage.beside({ rate: { perMinute: 2, burst: 1 } });
    // The bucket has more than one token from before.
    await stage.deps.redis.del("rate:{acme}");
    const first = limited.chat.completions.create(asked).withResponse();
    await (await stage.lead(await stage.nextJob())).end(0);
    expect((await first).response.headers.get("x-ratelimit-remaining-requests")).toBe("0");
    const error = await refused(() => limited.chat.completions.create(asked));
    expect(error).toMatchObject({ status: 429, code: "rate_limit_exceeded" });
    expect(Number(error.headers?.get("retry-after"))).toBeGreaterThan(20);
    expect(error.headers?.get("x-ratelimit-limit-requests")).toBe("1");
  });

  test("when a store is away (503), or the wait would be too long (503)", async () => {
    const away = await stage.beside({
      authenticate: () => Promise.reject(new AxonError("unavailable", "Try again.")),
    });
    expect(await refused(() => away.chat.completions.create(asked))).toMatchObject({
      ...{ status: 503, code: "unavailable", type: "server_error" },
    });
    const full = await stage.beside({
      admission: { ...stage.deps.admission, tenantInFlight: 1, tenantHeld: 0, defaultRoom: 1 },
    });
    const answer = openai.chat.completions.create(asked);
    const job = await stage.nextJob();
    const error = await refused(() => full.chat.completions.create(asked));
    expect(error).toMatchObject({ status: 503, code: "overloaded" });
    expect(Number(error.headers?.get("retry-after"))).toBeGreaterThan(0);
    await (await stage.lead(job)).end(0);
    await answer;
  });
});

const asksWhatItMaySend = (origin: string) =>
  fetch(`${stage.url}/v1/chat/completions`, {
    method: "OPTIONS",
    headers: { origin, "access-control-request-method": "POST" },
  });

test.each(["https://example.org", "http://localhost.example.org", "null"])(
  "a page of %s is refused by a stage of one's own, whose key everybody knows",
  async (origin) => {
    const preflight = await asksWhatItMaySend(origin);
    expect(preflight.status).toBe(403);
    expect(preflight.headers.get("access-control-allow-origin")).toBeNull();
    const headers = { origin, authorization: "Bearer key-of-acme" };
    expect((await fetch(`${stage.url}/v1/models`, { headers })).status).toBe(403);
  },
);

test("another page of this machine may ask what it may send", async () => {
  const preflight = await asksWhatItMaySend("http://localhost:3000");
  expect(preflight.status).toBe(200);
  expect(preflight.headers.get("access-control-allow-origin")).toBe("*");
  expect(preflight.headers.get("access-control-allow-headers")).toContain("authorization");
});
