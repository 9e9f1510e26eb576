import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { browserPath, openBrowser } from "./browser.ts";
import { eventsOf, recorded } from "./reading.ts";
import {
  dataFolder,
  interrupt,
  leaderOf,
  pidOf,
  removeFolder,
  type SpawnedStage,
  spawnStage,
} from "./spawned-stage.ts";

const require = createRequire(import.meta.url);

/** OpenAI's own client, and a chat component made for OpenAI, on a whole stage of two groups. */

let stage: SpawnedStage;
let openai: OpenAI;
beforeAll(async () => {
  stage = await spawnStage(await dataFolder(), {
    args: ["--groups", "2", "--tp", "1"],
    env: {
      ...{ AXON_MS_PER_TOKEN: "10", AXON_ABANDON_MS: "1500" },
      ...{ AXON_RATE_BURST: "1000", AXON_TENANT_IN_FLIGHT: "50" },
    },
  });
  const { url, credential } = await stage.file();
  openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: credential, maxRetries: 0 });
});
afterAll(async () => {
  await interrupt(stage);
  await removeFolder(stage.dataDir);
});

const story = {
  model: "axon-guide",
  messages: [{ role: "user" as const, content: "Tell me a story about a lighthouse." }],
  temperature: 0,
};

/** Reads an answer as its events come, and does something once it has said a few words. */
async function readWhile(act: (turnId: string) => Promise<unknown>, more: object = {}) {
  const stream = await openai.chat.completions.create({ ...story, stream: true, ...more });
  let text = "";
  let acting: Promise<unknown> | undefined;
  for await (const { id, choices } of stream) {
    text += choices[0]?.delta.content ?? "";
    if (text.length > 20) acting ??= act(id);
  }
  expect(acting).toBeDefined();
  await acting;
  return text;
}

let whole = "";
test("an answer is the same, streamed or whole", async () => {
  const { choices, usage } = await openai.chat.completions.create(story);
  whole = choices[0]?.message.content ?? "";
  expect(whole.length).toBeGreaterThan(60);
  expect(usage?.completion_tokens).toBeGreaterThan(20);
  expect(await readWhile(async () => {})).toBe(whole);
});

test("a prompt of the caller's own making goes to the model as it is", async () => {
  const prompt = "<|begin|><|user|>What is a rank?<|end|><|assistant|>";
  const raw = await openai.completions.create({ model: "axon-guide", prompt, temperature: 0 });
  const chat = await openai.chat.completions.create({
    ...story,
    messages: [{ role: "user", content: "What is a rank?" }],
  });
  expect(raw.choices[0]?.text).toBe(chat.choices[0]?.message.content);
  expect(raw.usage?.prompt_tokens).toBe(chat.usage?.prompt_tokens);
});

test("a hundred at once each get their own answer", async () => {
  const answers = Array.from({ length: 100 }, async () => {
    const short = { ...story, max_tokens: 3, stream: true as const };
    let text = "";
    for await (const { choices } of await openai.chat.completions.create(short)) {
      text += choices[0]?.delta.content ?? "";
    }
    return text;
  });
  const texts = new Set(await Promise.all(answers));
  expect(texts.size).toBe(1);
  expect(whole.startsWith([...texts][0] ?? "?")).toBe(true);
});

test("a leader that is killed is followed by the other, and no word is lost or repeated", async () => {
  let turnId = "";
  const text = await readWhile(async (id) => {
    turnId = id;
    process.kill(await leaderOf(stage, id), "SIGKILL");
  });
  expect(text).toBe(whole);
  await eventually(async () => (await eventsOf(stage, turnId)).includes("TurnCompleted"));
  expect(await eventsOf(stage, turnId)).toContain("TurnTakenOver");
});

test("Redis is killed and comes back, and no word is lost or repeated", async () => {
  const text = await readWhile(async () => process.kill(await pidOf(stage, "redis"), "SIGKILL"));
  expect(text).toBe(whole);
});

test("a client that went away comes back for the rest, by the last event it has", async () => {
  const first = await openai.chat.completions.create({ ...story, stream: true }).asResponse();
  let heard = "";
  for await (const part of (first.body ?? new ReadableStream()).pipeThrough(
    new TextDecoderStream(),
  )) {
    heard += part;
    if ((heard.match(/\n\n/g) ?? []).length > 5) break;
  }
  const events = heard.slice(0, heard.lastIndexOf("\n\n")).split("\n\n");
  const textOf = (event: string) =>
    (JSON.parse(/^data: (.*)$/m.exec(event)?.[1] ?? "") as OpenAI.ChatCompletionChunk).choices[0]
      ?.delta.content ?? "";
  const id = /^id: (.*)$/m.exec(events.at(-1) ?? "")?.[1] ?? "";
  let text = events.map(textOf).join("");
  expect(text.length).toBeLessThan(whole.length);
  const rest = await openai.chat.completions.create(
    { ...story, stream: true },
    { headers: { "Last-Event-ID": id } },
  );
  for await (const { choices } of rest) text += choices[0]?.delta.content ?? "";
  expect(text).toBe(whole);
});

test("an answer that its client has left is cancelled after a while, and keeps its words", async () => {
  const long = { ...story, temperature: 1.5, seed: 3, max_tokens: 1_000 };
  const { data: stream, response } = await openai.chat.completions
    .create({ ...long, stream: true })
    .withResponse();
  let turnId = "";
  for await (const { id } of stream) {
    turnId = id;
    stream.controller.abort();
  }
  const conversationId = response.headers.get("x-axon-conversation") ?? "";
  const record = await recorded(stage, { turnId, conversationId });
  if (record.status === "completed") return; // It was a short story.
  expect(record.status).toBe("cancelled");
  await expect(openai.chat.completions.retrieve(turnId)).rejects.toMatchObject({
    code: "turn_cancelled",
  });
});

test.skipIf(browserPath === undefined)(
  "deep-chat, made for OpenAI, chats with it from another site's page",
  async () => {
    const { url, credential } = await stage.file();
    const folder = dirname(require.resolve("deep-chat/package.json"));
    const script = await readFile(join(folder, "dist", "deepChat.bundle.js"));
    const site = createServer((request, response) => {
      const isScript = request.url === "/deep-chat.js";
      response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
      response.end(isScript ? script : page(url, credential));
    });
    await new Promise<void>((done) => site.listen(0, "127.0.0.1", done));
    const browser = await openBrowser(browserPath ?? "");
    try {
      const tab = await browser.newPage();
      await tab.goto(`http://127.0.0.1:${(site.address() as AddressInfo).port}/`);
      const ask = async (prompt: string) => {
        await tab.locator("#text-input").click();
        await tab.keyboard.type(prompt);
        await tab.keyboard.press("Enter");
      };
      await ask("What is a rank?");
      const answer = tab.locator(".ai-message-text").last();
      await tab.getByText("all ranks compute every token together").waitFor();
      // The component keeps the conversation, and sends it along.
      await ask("What is tensor parallelism?");
      await eventually(async () => (await answer.textContent())?.includes("parallel"));
    } finally {
      await browser.close();
      site.close();
    }
  },
);

const page = (url: string, key: string) => `<!doctype html>
<script type="module" src="/deep-chat.js"></script>
<deep-chat
  connect='${JSON.stringify({
    ...{ url: `${url}/v1/chat/completions`, stream: true },
    additionalBodyProps: { model: "axon-guide", temperature: 0 },
  })}'
  directConnection='${JSON.stringify({ openAI: { key, completions: true } })}'
></deep-chat>`;
