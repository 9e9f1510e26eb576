import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Client, connect } from "../../client/client.ts";
import type { Turn } from "../../client/turn.ts";
import { eventually } from "../support/eventually.ts";
import { eventsOf, read, recorded } from "./reading.ts";
import {
  dataFolder,
  interrupt,
  removeFolder,
  type SpawnedStage,
  spawnStage,
} from "./spawned-stage.ts";

/** Two groups and two relays, one of them with a door of its own: what a client sees when one dies. */

let stage: SpawnedStage;
beforeAll(async () => {
  stage = await spawnStage(await dataFolder(), {
    args: ["--groups", "2", "--relays", "2", "--front-door", "--tp", "1"],
    env: { AXON_MS_PER_TOKEN: "25", AXON_ABANDON_MS: "3000" },
  });
});
afterAll(async () => {
  await interrupt(stage);
  await removeFolder(stage.dataDir);
});

const pidOf = async (name: string) =>
  (await stage.file()).parts.find((part) => part.name === name)?.pid ?? 0;

const prompt = "Tell me a story about a lighthouse.";

/** At the relay's own door. */
async function atTheDoor(): Promise<Client> {
  const { url, credential } = await stage.file();
  const config = (await (await fetch(`${url}/config.json`)).json()) as { webSocketUrl: string };
  expect(config.webSocketUrl).not.toBe("/");
  return connect({ url: config.webSocketUrl.replace("http", "ws"), credential });
}

const doors: [string, () => Promise<Client>][] = [
  ["the gateway", () => stage.client()],
  ["a relay's own door", atTheDoor],
];

/** Reads a turn, and does something once it has said a few words. @returns the longest silence, ms. */
async function readWhile(turn: Turn, act: () => Promise<unknown>): Promise<number> {
  let seq = 0;
  let acted = false;
  let longest = 0;
  let heardAt = 0;
  for await (const update of turn) {
    if (update.type !== "text") continue;
    expect(update.from).toBe(seq + 1);
    seq = update.to;
    if (acted) longest = Math.max(longest, performance.now() - heardAt);
    heardAt = performance.now();
    if (acted || seq < 4) continue;
    acted = true;
    await act();
  }
  expect(acted).toBe(true);
  return longest;
}

/** The leader that runs a turn. A group that is started again keeps its name, and has another leader. */
async function leaderOf(turn: Turn): Promise<string> {
  const { body } = await stage.get(`/api/turns/${turn.turnId}/events`);
  const { events } = body as { events: { leaderId?: string }[] };
  const leaderId = events.findLast((event) => event.leaderId !== undefined)?.leaderId;
  expect(leaderId).toBeDefined();
  return leaderId ?? "";
}

describe.each(doors)("through %s", (_name, open) => {
  test("an answer streams, is recorded, and can be read again", async () => {
    const client = await open();
    const reading = await read(client.chat({ prompt: "What is a rank?" }));
    expect(reading.finishReason).toBe("stop");
    expect(reading.pieces).toBeGreaterThan(3);
    await recorded(stage, reading);
    const again = await read(client.resume({ turnId: reading.turnId }));
    expect(again.text).toBe(reading.text);
    client.close();
  });

  test("what is wrong is said, and an answer is stopped at once", async () => {
    const client = await open();
    await expect(client.chat({ prompt: " " }).text()).rejects.toMatchObject({
      ...{ code: "invalid_field", field: "prompt" },
    });
    const turn = client.chat({ prompt });
    await readWhile(turn, async () => turn.cancel());
    const { turnId = "", conversationId = "" } = turn;
    const record = await recorded(stage, { turnId, conversationId });
    expect(record).toMatchObject({ status: "cancelled", answer: await turn.text() });
    client.close();
  });

  test.each(["relay", "relay 2", "control plane"])("the %s is killed", async (name) => {
    const client = await open();
    const whole = await read(client.chat({ prompt, sampling: { temperature: 0 } }));
    const turn = client.chat({ prompt, sampling: { temperature: 0 } });
    const silence = await readWhile(turn, async () => process.kill(await pidOf(name), "SIGKILL"));
    expect(await turn.text()).toBe(whole.text);
    expect(silence).toBeLessThan(10_000);
    client.close();
  });

  test("a relay that is told to end hands over", async () => {
    const client = await open();
    const turn = client.chat({ prompt });
    await readWhile(turn, async () => process.kill(await pidOf("relay"), "SIGTERM"));
    const { turnId = "", conversationId = "" } = turn;
    const record = await recorded(stage, { turnId, conversationId });
    expect(record).toMatchObject({ status: "completed", answer: await turn.text() });
    client.close();
  });

  test("a leader that is killed is followed by another, with the same words", async () => {
    const client = await open();
    const ask = () => client.chat({ prompt, sampling: { temperature: 0.8, seed: 7 } });
    const whole = await read(ask());
    const turn = ask();
    let killed = "";
    const silence = await readWhile(turn, async () => {
      killed = await eventually(() => leaderOf(turn));
      // Both are killed in turn until the one that runs the turn is gone: names do not tell which.
      const { body } = await stage.get(`/api/turns/${turn.turnId}/events`);
      expect(JSON.stringify(body)).toContain(killed);
      for (const name of ["group", "group 2"]) process.kill(await pidOf(name), "SIGKILL");
    });
    expect(await turn.text()).toBe(whole.text);
    expect(silence).toBeLessThan(15_000);
    const { turnId = "", conversationId = "" } = turn;
    await recorded(stage, { turnId, conversationId });
    expect(await eventsOf(stage, turnId)).toEqual([
      ...["TurnRequested", "TurnStarted", "TurnTakenOver", "TurnCompleted"],
    ]);
    expect(await leaderOf(turn)).not.toBe(killed);
    client.close();
  });
});

test("a second device reads the same answer, at the other door", async () => {
  const first = await stage.client();
  const second = await atTheDoor();
  const turn = first.chat({ prompt });
  let other: Promise<string> | undefined;
  await readWhile(turn, async () => {
    other = second.resume({ turnId: turn.turnId ?? "" }).text();
  });
  expect(await other).toBe(await turn.text());
  first.close();
  second.close();
});

test("a turn that nobody watches any more is cancelled after a while, and keeps its words", async () => {
  const client = await stage.client();
  const turn = client.chat({ prompt, sampling: { maxTokens: 400, temperature: 1.5, seed: 3 } });
  turn.text().catch(() => {});
  await eventually(() => turn.progress.after > 3);
  const { turnId = "", conversationId = "" } = turn;
  client.close();
  const record = await recorded(stage, { turnId, conversationId });
  if (record.status === "completed") return; // It was a short story.
  expect(record.status).toBe("cancelled");
  expect(await eventsOf(stage, turnId)).toContain("TurnCancelRequested");
});
