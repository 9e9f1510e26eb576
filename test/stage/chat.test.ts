import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { Client } from "../../client/client.ts";
import type { ServerFrame } from "../../events/frames.ts";
import { eventually } from "../support/eventually.ts";
import { eventsOf, read, recorded } from "./reading.ts";
import {
  dataFolder,
  interrupt,
  removeFolder,
  type SpawnedStage,
  spawnStage,
  tenantKeys,
} from "./spawned-stage.ts";

/** A whole stage, used as its users use it. */

const root = join(import.meta.dirname, "..", "..");
let stage: SpawnedStage;
let client: Client;

beforeAll(async () => {
  // Slow enough for an answer to be stopped in its middle.
  stage = await spawnStage(await dataFolder(), { env: { AXON_MS_PER_TOKEN: "6" } });
  client = await stage.client();
});
afterAll(async () => {
  client.close();
  await interrupt(stage);
  await removeFolder(stage.dataDir);
});

describe("a chat", () => {
  test("is answered by the model, in pieces, and recorded", async () => {
    const reading = await read(client.chat({ prompt: "What is tensor parallelism?" }));
    expect(reading.finishReason).toBe("stop");
    expect(reading.text).toMatch(/layer/i);
    expect(reading.pieces).toBeGreaterThan(1);
    const turn = await recorded(stage, reading);
    expect(turn).toMatchObject({ status: "completed", answer: reading.text });
    expect(await eventsOf(stage, reading.turnId)).toEqual([
      ...["TurnRequested", "TurnStarted", "TurnCompleted"],
    ]);
  });

  test("remembers what was said before it, also a moment ago", async () => {
    const first = await read(client.chat({ prompt: "What is a relay?" }));
    const { conversationId } = first;
    const second = await read(client.chat({ prompt: "Tell me more.", conversationId }));
    const third = await read(client.chat({ prompt: "Thanks!", conversationId }));
    expect(second.conversationId).toBe(conversationId);
    await recorded(stage, third);
    const { body } = await stage.get(`/api/conversations/${conversationId}`);
    expect(body).toMatchObject({
      turns: [{ answer: first.text }, { answer: second.text }, { answer: third.text }],
    });
  });

  test("with a seed is the same each time", async () => {
    const ask = () =>
      read(
        client.chat({
          prompt: "Tell me a story about a fox.",
          sampling: { temperature: 0.8, seed: 7, maxTokens: 60 },
        }),
      );
    const [one, two] = await Promise.all([ask(), ask()]);
    expect(one?.text).toBe(two?.text);
  });

  test("that is stopped keeps what was said, marked as cancelled", async () => {
    // Some answers of a model as hot as this one end before they can be stopped.
    const turn = await eventually(async () => {
      const hot = { temperature: 2, topP: 1, maxTokens: 900 };
      const asked = client.chat({ prompt: "Tell me a story about a lighthouse.", sampling: hot });
      for await (const update of asked) {
        if (update.type === "text" && update.to >= 3) asked.cancel();
        if (update.type === "done" && update.finishReason === "cancelled") return asked;
      }
      return undefined;
    });
    const { turnId = "", conversationId = "" } = turn;
    const kept = await recorded(stage, { turnId, conversationId });
    expect(kept).toMatchObject({ status: "cancelled", answer: await turn.text() });
    // That it has started is reported at leisure: the wish to stop may be recorded before it.
    const [first, ...others] = await eventsOf(stage, turnId);
    expect(first).toBe("TurnRequested");
    expect(others.slice(0, -1).sort()).toEqual(["TurnCancelRequested", "TurnStarted"]);
    expect(others.at(-1)).toBe("TurnCancelled");
  });

  test("is resumed from a token in its middle, running or ended", async () => {
    const whole = await read(client.chat({ prompt: "What is an epoch?" }));
    const turn = client.resume({ turnId: whole.turnId, after: 5 });
    const froms: number[] = [];
    for await (const update of turn) if (update.type === "text") froms.push(update.from);
    expect(froms[0]).toBe(6);
    expect(whole.text.endsWith(await turn.text())).toBe(true);
  });
});

test("fifty chats at once are all complete, in order, and recorded as they were read", async () => {
  const prompts = ["What is Axon?", "What is a lease?", "Tell me a joke.", "What is SQS?", "hello"];
  const readings = await Promise.all(
    Array.from({ length: 50 }, (_, i) =>
      read(client.chat({ prompt: prompts[i % prompts.length] ?? "" })),
    ),
  );
  expect(new Set(readings.map(({ turnId }) => turnId)).size).toBe(50);
  for (const reading of readings) {
    expect(reading.lastSeq).toBeGreaterThan(0);
    const turn = await recorded(stage, reading);
    expect(turn).toMatchObject({ status: "completed", answer: reading.text });
    expect(await eventsOf(stage, reading.turnId)).toEqual([
      ...["TurnRequested", "TurnStarted", "TurnCompleted"],
    ]);
  }
  // Greedy answers to one prompt are one text, whatever ran beside them.
  for (let i = 0; i < prompts.length; i++) {
    const texts = readings.filter((_, n) => n % prompts.length === i).map(({ text }) => text);
    expect(new Set(texts).size).toBe(1);
  }
});

describe("bad input", () => {
  /** Sends frames as they are, and collects `count` answers. */
  async function exchange(frames: string[], count = frames.length, key?: string) {
    const { url, credential } = await stage.file();
    const auth = Buffer.from(key ?? credential).toString("base64url");
    const socket = new WebSocket(url.replace("http", "ws"), ["axon.v1", `axon.auth.${auth}`]);
    const answers: ServerFrame[] = [];
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      socket.once("open", () => {
        for (const frame of frames) socket.send(frame);
      });
      socket.on("message", (data) => {
        answers.push(JSON.parse(String(data)) as ServerFrame);
        if (answers.length === count) resolve();
      });
    }).finally(() => socket.close());
    return answers;
  }
  const chat = (fields: object) =>
    JSON.stringify({ action: "chat", requestId: randomUUID(), prompt: "hi", ...fields });

  test.each([
    ["no JSON", "{oops", { code: "invalid_frame" }],
    ["no object", "[1]", { code: "invalid_frame" }],
    ["an unknown action", '{"action":"dance"}', { code: "unknown_action", field: "action" }],
    ["no prompt", chat({ prompt: " " }), { code: "invalid_field", field: "prompt" }],
    ["a long prompt", chat({ prompt: "é".repeat(9_000) }), { code: "prompt_too_long" }],
    ["an unknown model", chat({ model: "gpt" }), { code: "unknown_model", field: "model" }],
    ["an unknown field", chat({ colour: "red" }), { code: "invalid_field", field: "colour" }],
    ["a wild number", chat({ sampling: { topP: 3 } }), { field: "sampling.topP" }],
    [
      "a conversation that is not there",
      chat({ conversationId: "conv_nowhere" }),
      { code: "conversation_not_found", field: "conversationId" },
    ],
    [
      "a turn that is not there",
      '{"action":"cancel","turnId":"turn_nowhere"}',
      { code: "turn_not_found", turnId: "turn_nowhere" },
    ],
  ])("%s is refused with a code and the field", async (_, frame, expected) => {
    const [answer] = await exchange([frame]);
    expect(answer).toMatchObject({ type: "error", retryable: false, ...expected });
  });

  test("someone else's conversation and turn are not there", async () => {
    const alice = await stage.client(tenantKeys.alice);
    const { conversationId, turnId } = await read(alice.chat({ prompt: "hello" }));
    alice.close();
    const frames = [
      chat({ conversationId }),
      JSON.stringify({ action: "resume", turnId, after: 0 }),
      JSON.stringify({ action: "cancel", turnId }),
    ];
    const answers = await exchange(frames, 3, tenantKeys.bob);
    expect(answers.map((answer) => "code" in answer && answer.code).sort()).toEqual([
      ...["conversation_not_found", "turn_not_found", "turn_not_found"],
    ]);
    const paths = [`/api/conversations/${conversationId}`, `/api/turns/${turnId}/events`];
    for (const path of paths) {
      expect((await stage.get(path, tenantKeys.bob)).status).toBe(404);
      expect((await stage.get(path, tenantKeys.alice)).status).toBe(200);
    }
    const { body } = await stage.get("/api/conversations", tenantKeys.bob);
    expect(body).toMatchObject({ conversations: [] });
  });

  test("a connection without a good key does not open", async () => {
    await expect(exchange(["{}"], 1, "wrong")).rejects.toThrow("401");
    expect((await stage.get("/api/conversations", "wrong")).status).toBe(401);
  });
});

describe("the command line", () => {
  async function axon(...args: string[]) {
    const { url } = await stage.file();
    const child = spawn(join(root, "cli", "axon.mjs"), args, {
      env: { ...process.env, AXON_URL: url, AXON_DATA: stage.dataDir },
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk) => {
      stdout += String(chunk);
    });
    child.stderr.on("data", (chunk) => {
      stderr += String(chunk);
    });
    const code = await new Promise((resolve) => child.once("exit", resolve));
    return { code, stdout, stderr };
  }

  test("streams an answer and says how fast it was", async () => {
    const { code, stdout, stderr } = await axon("chat", "What is Axon?");
    expect(stdout).toMatch(/Axon/);
    expect(stderr).toMatch(/\d+ tokens · [\d.]+ tokens\/s · first after \d+ ms/);
    expect(code).toBe(0);
  });

  test("ends an answer where it is told to, and refuses what is out of bounds", async () => {
    const greedy = ["--temperature", "0", "--min-p", "0.1", "--repetition-penalty", "1"];
    const whole = await axon("chat", "What is a turn? 🚀", ...greedy);
    expect(whole.code).toBe(0);
    const text = whole.stdout.trimEnd();
    const stop = text.slice(10, 14);
    const cut = await axon("chat", "What is a turn? 🚀", ...greedy, "--stop", "§", "--stop", stop);
    expect(cut).toMatchObject({ code: 0, stdout: `${text.slice(0, text.indexOf(stop))}\n` });
    expect(await axon("chat", "x", "--min-p", "2")).toMatchObject({
      ...{ code: 1, stderr: expect.stringMatching(/sampling\.minP: .*<=1/) },
    });
  });

  test("prints the events of a turn, for people and for programs", async () => {
    const reading = await read(client.chat({ prompt: "What is a decider?" }));
    await recorded(stage, reading);
    const readable = await axon("log", reading.turnId);
    expect(readable.stdout).toMatch(/TurnRequested[^\n]*\n.*TurnStarted[^\n]*\n.*TurnCompleted/);
    const latest = await axon("log", "--json");
    const events = latest.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(events.map(({ type }) => type)).toEqual(await eventsOf(stage, reading.turnId));
    expect(events[0].turnId).toBe(reading.turnId);
  });

  test("shows what no leader can read, and tries it again", async () => {
    const { queues } = await stage.file();
    const credentials = { accessKeyId: "local", secretAccessKey: "local" };
    const sqs = new SQSClient({ endpoint: queues.endpoint, region: "us-east-1", credentials });
    await sqs.send(new SendMessageCommand({ QueueUrl: queues.jobs.url, MessageBody: "no job" }));
    sqs.destroy();
    const listed = async () => {
      const { stdout } = await axon("jobs", "dlq", "--json");
      return stdout === "" ? undefined : (JSON.parse(stdout) as { messageId: string });
    };
    const letter = await eventually(listed);
    expect(letter).toMatchObject({
      queue: expect.stringMatching(/^jobs-axon-guide-/),
      reason: "The body is not JSON.",
    });
    expect(await axon("jobs", "dlq", "--redrive")).toMatchObject({
      ...{ code: 0, stdout: expect.stringMatching(/^1 dead letter moved back/) },
    });
    // It is no better now.
    await eventually(
      async () => ((await listed())?.messageId ?? letter.messageId) !== letter.messageId,
    );
  });

  test("says what is wrong, in one line and by its exit code", async () => {
    expect(await axon("dance")).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/axon: There is no command/),
    });
    expect(await axon("chat", "x", "--model", "gpt")).toMatchObject({
      ...{ code: 1, stderr: expect.stringMatching(/There is no such model/) },
    });
    expect(await axon("log", "turn_nowhere")).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/turn_nowhere/),
    });
    expect(await axon("log", "--url", "http://127.0.0.1:9")).toMatchObject({
      ...{ code: 3, stderr: expect.stringMatching(/npm start/) },
    });
  });
});
