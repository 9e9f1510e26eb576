import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { operator } from "./operator.ts";
import { read } from "./reading.ts";
import {
  dataFolder,
  interrupt,
  removeFolder,
  type SpawnedStage,
  spawnStage,
} from "./spawned-stage.ts";

/** A stage that is killed whole, in the middle of a rollout. */

const model = "axon-guide";
const options = { args: ["--tp", "1"], env: { AXON_SETTLE_MS: "0" } };
let dataDir: string;
let stage: SpawnedStage;

beforeAll(async () => {
  dataDir = await dataFolder();
  await mkdir(join(dataDir, "revisions"), { recursive: true });
  const file = JSON.stringify({ model, path: join("models", model), ranks: 1 });
  await writeFile(join(dataDir, "revisions", "guide-2.json"), file);
  stage = await spawnStage(dataDir, options);
});
afterAll(async () => {
  await interrupt(stage);
  await removeFolder(dataDir);
});

test("goes on with the rollout when it is started again, and then serves what was promoted", async () => {
  await operator(stage, {
    ...{ command: "start", rolloutId: "to-2", revision: "guide-2", by: "test", bakeMs: 1_500 },
    gates: { minimumTurns: 0 },
    timeouts: { settleMs: 0 },
  });
  await eventually(async () => {
    const { status } = await operator(stage, { command: "status" });
    return status.rollout?.phase === "canary";
  }, 30_000);
  stage.process.kill("SIGKILL");
  await stage.exited;

  stage = await spawnStage(dataDir, options);
  const done = await eventually(async () => {
    const { status } = await operator(stage, { command: "status" });
    return status.past.length === 1 && status.status === "serving" && status;
  }, 60_000);
  expect(done.past[0]?.outcome).toBe("promoted");
  expect(done.groups.map(({ groupId }) => groupId)).toEqual(["guide-2-0"]);

  await interrupt(stage);
  stage = await spawnStage(dataDir, options);
  const { parts } = await stage.file();
  expect(parts.flatMap(({ groupId }) => groupId ?? [])).toEqual(["guide-2-0"]);
  const client = await stage.client();
  const { text } = await read(client.chat({ prompt: "What is a rank?" }));
  expect(text).not.toBe("");
  client.close();
}, 150_000);
