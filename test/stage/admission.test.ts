import { afterAll, beforeAll, expect, test } from "vitest";
import type { Client } from "../../client/client.ts";
import { eventsOf, read, recorded } from "./reading.ts";
import {
  dataFolder,
  interrupt,
  removeFolder,
  type SpawnedStage,
  spawnStage,
  tenantKeys,
} from "./spawned-stage.ts";

/** One tenant asks for far more than there is room for, and another one asks in the middle of it. */

let stage: SpawnedStage;
let alice: Client;
let bob: Client;
beforeAll(async () => {
  stage = await spawnStage(await dataFolder(), {
    args: ["--tp", "1"],
    env: { AXON_MS_PER_TOKEN: "10", AXON_SLOTS: "4" },
  });
  alice = await stage.client(tenantKeys.alice);
  bob = await stage.client(tenantKeys.bob);
});
afterAll(async () => {
  for (const client of [alice, bob]) client.close();
  await interrupt(stage);
  await removeFolder(stage.dataDir);
});

const sampling = { maxTokens: 40, temperature: 1.2, stop: [] };

test("a flood waits in line, and nobody else in it", async () => {
  const flood = Array.from({ length: 40 }, (_, i) =>
    alice.chat({ prompt: `Tell me story number ${i}.`, sampling }),
  );
  let ended = 0;
  const places: (number | undefined)[] = [];
  const readings = flood.map(async (turn) => {
    let text = "";
    for await (const update of turn) {
      if (update.type === "accepted") places.push(update.queue?.position);
      if (update.type === "done") {
        expect(update.finishReason).toMatch(/^(stop|length)$/);
        text = update.text;
      }
    }
    ended++;
    return text;
  });
  await expect.poll(() => places.length).toBe(40);
  const told = places.filter((place) => place !== undefined);
  expect(told.length).toBeGreaterThanOrEqual(40 - 8 - ended);
  expect(Math.min(...told)).toBe(1);
  expect(Math.max(...told)).toBeGreaterThanOrEqual(15);

  const endedBefore = ended;
  const other = await read(bob.chat({ prompt: "What is a rank?", sampling }));
  expect(other.text).not.toBe("");
  // In flight are eight at most, and of those that wait one goes before it.
  expect(ended - endedBefore).toBeLessThanOrEqual(14);
  expect(ended).toBeLessThan(40);

  expect((await Promise.all(readings)).every((text) => text !== "")).toBe(true);
  expect(ended).toBe(40);
});

test("a turn that waits is stopped at once, without a leader", async () => {
  const long = { ...sampling, maxTokens: 400, temperature: 1.5 };
  const running = Array.from({ length: 16 }, () => alice.chat({ prompt: "Talk.", sampling: long }));
  const accepted = await Promise.all(
    running.map(async (turn) => {
      for await (const update of turn) if (update.type === "accepted") return update.turnId;
      throw new Error("not accepted");
    }),
  );
  expect(accepted).toHaveLength(16);
  const turn = alice.chat({ prompt: "Never mind.", sampling: long });
  const updates: string[] = [];
  for await (const update of turn) {
    updates.push(update.type);
    if (update.type === "accepted") {
      expect(update.queue?.position).toBeGreaterThan(1);
      turn.cancel();
    }
    if (update.type === "done") {
      expect(update).toMatchObject({ finishReason: "cancelled", lastSeq: 0, text: "" });
    }
  }
  expect(updates).toEqual(["accepted", "done"]);
  const { turnId = "", conversationId = "" } = turn;
  expect(await recorded(stage, { turnId, conversationId }, tenantKeys.alice)).toMatchObject({
    status: "cancelled",
  });
  expect(await eventsOf(stage, turnId, tenantKeys.alice)).toEqual([
    ...["TurnRequested", "TurnCancelRequested", "TurnCancelled"],
  ]);
});
