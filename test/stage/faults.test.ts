import { createServer } from "node:net";
import { afterEach, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { eventsOf, read, recorded } from "./reading.ts";
import {
  dataFolder,
  interrupt,
  isRunning,
  launch,
  pidOf,
  removeFolder,
  type SpawnedStage,
  spawnStage,
} from "./spawned-stage.ts";

/** What happens to a whole stage when its processes die, or cannot start. */

let cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
  cleanups = [];
});

async function folder(): Promise<string> {
  const path = await dataFolder();
  cleanups.push(() => removeFolder(path));
  return path;
}

async function started(dataDir: string, env: Record<string, string> = {}): Promise<SpawnedStage> {
  const stage = await spawnStage(dataDir, { env });
  cleanups.push(async () => {
    if (stage.process.exitCode === null && stage.process.signalCode === null)
      await interrupt(stage);
  });
  return stage;
}

/** Slow enough for something to die in the middle of an answer. */
const slow = { AXON_MS_PER_TOKEN: "20" };

test("a worker that is killed between two turns is replaced without help", async () => {
  const stage = await started(await folder());
  const client = await stage.client();
  const before = await read(client.chat({ prompt: "What is a rank?" }));
  const pid = await pidOf(stage, "group");
  process.kill(pid, "SIGKILL");
  const after = await read(client.chat({ prompt: "What is a rank?" }));
  expect(after.text).toBe(before.text);
  expect(await pidOf(stage, "group")).not.toBe(pid);
  client.close();
});

test("a rank that is killed takes its group with it, and the answer goes on in the next", async () => {
  const stage = await started(await folder(), { AXON_TRANSPORT: "tcp", ...slow });
  const client = await stage.client();
  const whole = await read(client.chat({ prompt: "Tell me a story about a fox." }));
  const turn = client.chat({ prompt: "Tell me a story about a fox." });
  const { parts } = await stage.file();
  const rank = parts.find((part) => part.name === "group")?.ranks?.find((each) => each.rank === 1);
  let killed = false;
  let seq = 0;
  for await (const update of turn) {
    if (update.type !== "text") continue;
    expect(update.from).toBe(seq + 1);
    seq = update.to;
    if (!killed) process.kill(rank?.pid ?? expect.unreachable(), "SIGKILL");
    killed = true;
  }
  expect(await turn.text()).toBe(whole.text);
  const { turnId = "", conversationId = "" } = turn;
  await recorded(stage, { turnId, conversationId });
  const events = await eventsOf(stage, turnId);
  expect(events.at(0)).toBe("TurnRequested");
  expect(events.at(-1)).toBe("TurnCompleted");
  client.close();
});

test.each(["relay", "control plane"])(
  "a %s that is killed is replaced, and the answer is whole",
  async (name) => {
    const stage = await started(await folder(), slow);
    const client = await stage.client();
    const turn = client.chat({ prompt: "Tell me a story about a lighthouse." });
    let killed = false;
    let seq = 0;
    for await (const update of turn) {
      if (update.type !== "text") continue;
      expect(update.from).toBe(seq + 1);
      seq = update.to;
      if (!killed) process.kill(await pidOf(stage, name), "SIGKILL");
      killed = true;
    }
    const { turnId = "", conversationId = "" } = turn;
    expect(await recorded(stage, { turnId, conversationId })).toMatchObject({
      ...{ status: "completed", answer: await turn.text() },
    });
    client.close();
  },
);

test("a stage that is killed as a whole while jobs wait answers all of them after its restart", async () => {
  const dataDir = await folder();
  // One slot: all but one of the jobs wait in the queue.
  const first = await started(dataDir, { AXON_SLOTS: "1" });
  const client = await first.client();
  const earlier = await read(client.chat({ prompt: "What is a lease?" }));
  await recorded(first, earlier);
  const turns = Array.from({ length: 12 }, () => client.chat({ prompt: "What is the KV cache?" }));
  await eventually(() => turns.every((turn) => turn.turnId !== undefined), 30_000);
  const pids = await first.pids();
  for (const pid of pids) process.kill(pid, "SIGKILL");
  await first.exited;
  client.close();
  const turnIds = turns.map(({ turnId = "" }) => turnId);

  const second = await started(dataDir);
  for (const pid of pids) expect(isRunning(pid)).toBe(false);
  const anew = await second.client();
  const readings = await Promise.all(turnIds.map((turnId) => anew.resume({ turnId }).text()));
  expect(new Set(readings).size).toBe(1);
  expect(readings[0]).not.toBe("");
  for (const turnId of turnIds) {
    const events = await eventually(async () => {
      const types = await eventsOf(second, turnId);
      return types.includes("TurnCompleted") && types;
    }, 30_000);
    expect(events.filter((type) => type === "TurnCompleted")).toHaveLength(1);
    expect(events[0]).toBe("TurnRequested");
  }
  expect(await recorded(second, earlier)).toMatchObject({ answer: earlier.text });
  anew.close();
});

test("Ctrl-C ends every process, and what was said is there after the next start", async () => {
  const dataDir = await folder();
  const first = await started(dataDir);
  const client = await first.client();
  const reading = await read(client.chat({ prompt: "What is an outbox?" }));
  await recorded(first, reading);
  client.close();
  const pids = await first.pids();
  expect(pids.length).toBeGreaterThan(5);
  expect(await interrupt(first)).toBe(0);
  expect(pids.filter(isRunning)).toEqual([]);
  const second = await started(dataDir);
  expect(await recorded(second, reading)).toMatchObject({ answer: reading.text });
});

test("a second stage on the same data is refused, and leaves the first alone", async () => {
  const dataDir = await folder();
  const first = await started(dataDir);
  const second = launch(dataDir);
  expect(await second.exited).toBe(1);
  expect(second.output()).toMatch(
    new RegExp(`${dataDir}.*(in use|runs)|another.*${dataDir}`, "is"),
  );
  const client = await first.client();
  expect((await read(client.chat({ prompt: "hello" }))).finishReason).toBe("stop");
  client.close();
});

test("a port in use is named, with the way out, and nothing is left behind", async () => {
  const blocker = createServer();
  await new Promise<void>((resolve) => blocker.listen(0, "127.0.0.1", resolve));
  const address = blocker.address();
  const port = typeof address === "object" ? (address?.port ?? 0) : 0;
  const stage = launch(await folder(), { env: { PORT: String(port) } });
  expect(await stage.exited).toBe(1);
  expect(stage.output()).toMatch(new RegExp(`${port}.*in use`, "is"));
  expect(stage.output()).toMatch(/PORT=/);
  blocker.close();
});

test.each([
  [
    "a model that is not there",
    ["--model", "/nowhere"],
    /"\/nowhere" is no folder.*axon models pull/,
  ],
  ["a wrong option", ["--tp", "none"], /use 1, 2, 3/],
])("%s is refused before anything starts", async (_, args, reason) => {
  const stage = launch(await folder(), { args });
  expect(await stage.exited).toBe(1);
  expect(stage.output()).toMatch(reason);
});
