import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Client } from "../../client/client.ts";
import { freePort } from "../../local/part.ts";
import { eventually } from "../support/eventually.ts";
import { operator, type Status } from "./operator.ts";
import { type Reading, read, recorded } from "./reading.ts";
import {
  dataFolder,
  interrupt,
  removeFolder,
  type SpawnedStage,
  spawnStage,
} from "./spawned-stage.ts";

/** Rollouts of a stage, while twenty clients chat all the time: no turn fails, and none notices. */

const chatters = 20;
const model = "axon-guide";
let dataDir: string;
let stage: SpawnedStage;
let clients: Client[];
const chatting = new AbortController();
const readings: Reading[] = [];
const failures: unknown[] = [];
let chats: Promise<void>[];

const status = async () => (await operator(stage, { command: "status" })).status;

/** What every rollout here asks for: enough to be seen, and soon over. */
const request = {
  bakeMs: 1_000,
  gates: { minimumTurns: 3, errorRate: 0, interTokenP95Ms: 250, slowdown: null },
  timeouts: {
    ...{ capacityMs: 20_000, formMs: 30_000, stepMs: 90_000 },
    ...{ drainMs: 60_000, settleMs: 1_000 },
  },
};

const start = (rolloutId: string, revision: string, more: object = {}) =>
  operator(stage, { command: "start", rolloutId, revision, by: "test", ...request, ...more });

/** Waits for the end of a rollout and of what it has to tidy up. */
async function ended(rolloutId: string, during: (now: Status) => Promise<void> = async () => {}) {
  let last: Status | undefined;
  try {
    return await eventually(async () => {
      const now = await status().catch(() => undefined);
      if (now === undefined) return false;
      last = now;
      await during(now);
      const past = now.past.find((one) => one.rolloutId === rolloutId);
      return past !== undefined && now.status === "serving" && { ...now, past };
    }, 150_000);
  } catch (cause) {
    const { history } = await operator(stage, { command: "history", limit: 15 });
    throw new Error(`${rolloutId} has not ended: ${JSON.stringify({ last, history })}`, { cause });
  }
}

async function chat(client: Client, who: number): Promise<void> {
  for (let n = 0; !chatting.signal.aborted; n++) {
    const turn = client.chat({
      prompt: `Question ${n} of ${who}: what is a rank?`,
      sampling: { maxTokens: 30 },
    });
    try {
      readings.push(await read(turn));
    } catch (error) {
      failures.push(error);
    }
    await sleep(500);
  }
}

beforeAll(async () => {
  dataDir = await dataFolder();
  await mkdir(join(dataDir, "revisions"), { recursive: true });
  const path = join("models", model);
  const port = await freePort();
  const never = {
    ...{ AXON_TRANSPORT: "remote", AXON_LISTEN: `127.0.0.1:${port}` },
    AXON_GROUP_SECRET: "nobody-knows-this-secret",
  };
  for (const [name, env] of Object.entries({
    "guide-2": {},
    "guide-slow": { AXON_MS_PER_TOKEN: "400" },
    "guide-never": never,
  })) {
    const file = { model, path, ranks: name === "guide-never" ? 2 : 1, env };
    await writeFile(join(dataDir, "revisions", `${name}.json`), JSON.stringify(file));
  }
  stage = await spawnStage(dataDir, {
    args: ["--tp", "1"],
    env: {
      AXON_MS_PER_TOKEN: "50",
      AXON_RATE_PER_MINUTE: "100000",
      AXON_RATE_BURST: "1000",
      AXON_TENANT_IN_FLIGHT: "64",
      AXON_SETTLE_MS: "1000",
    },
  });
  clients = await Promise.all(Array.from({ length: chatters }, () => stage.client()));
  chats = clients.map(chat);
});

afterAll(async () => {
  chatting.abort();
  for (const client of clients ?? []) client.close();
  await interrupt(stage);
  await removeFolder(dataDir);
});

test("the stage's own revision is adopted, with its group", async () => {
  const now = await eventually(async () => {
    const seen = await status();
    return seen.groups[0]?.status === "ready" && seen;
  }, 30_000);
  expect(now.status).toBe("serving");
  expect(now.promoted).toMatch(/^axon-guide-[0-9a-f]{12}$/);
  expect(now.groups.map(({ groupId }) => groupId)).toEqual([`${now.promoted}-0`]);
});

test("a canary of 10, 50 and 100 percent is promoted, whatever of it is killed", async () => {
  const own = (await status()).promoted;
  await start("to-2", "guide-2");
  const steps = new Set<number>();
  const killed = new Set<string>();
  const kill = async (
    what: string,
    which: (part: { name: string; groupId?: string | undefined }) => boolean,
  ) => {
    if (killed.has(what)) return;
    const pid = (await stage.file()).parts.find(which)?.pid;
    if (pid === undefined) return;
    killed.add(what);
    process.kill(pid, "SIGKILL");
  };
  const done = await ended("to-2", async ({ rollout }) => {
    if (rollout?.phase !== "canary") return;
    steps.add(rollout.percent);
    if (rollout.percent === 10) await kill("new group", ({ groupId }) => groupId === "guide-2-0");
    if (rollout.percent === 50) await kill("manager", ({ name }) => name === "control plane");
    if (rollout.percent === 100) await kill("old group", ({ groupId }) => groupId === `${own}-0`);
  });
  expect(done.past.outcome).toBe("promoted");
  expect([...steps]).toEqual([10, 50, 100]);
  expect([...killed]).toEqual(["new group", "manager", "old group"]);
  expect(done.promoted).toBe("guide-2");
  expect(done.weights).toEqual([{ revision: "guide-2", percent: 100 }]);
  expect(done.groups.map(({ groupId }) => groupId)).toEqual(["guide-2-0"]);
  const { parts } = await stage.file();
  expect(parts.flatMap(({ groupId }) => groupId ?? [])).toEqual(["guide-2-0"]);
}, 200_000);

test("a revision that is slow fails its gate, and is rolled back", async () => {
  await start("to-slow", "guide-slow");
  const done = await ended("to-slow");
  expect(done.past.outcome).toBe("rolled back");
  expect(done.past.reason).toMatch(/^interTokenP95Ms \d+ is above 250$/);
  expect(done.promoted).toBe("guide-2");
  expect(done.groups.map(({ groupId }) => groupId)).toEqual(["guide-2-0"]);
}, 200_000);

test("a revision whose group is never ready is rolled back when its time is over", async () => {
  await start("to-never", "guide-never", { timeouts: { ...request.timeouts, formMs: 4_000 } });
  const done = await ended("to-never");
  expect(done.past.outcome).toBe("rolled back");
  expect(done.past.reason).toMatch(/4000 ms/);
  expect(done.weights).toEqual([{ revision: "guide-2", percent: 100 }]);
  expect((await stage.file()).parts.flatMap(({ groupId }) => groupId ?? [])).toEqual(["guide-2-0"]);
}, 100_000);

test("no turn has failed, none has lost or repeated a token, and each of them is recorded", async () => {
  chatting.abort();
  await Promise.all(chats);
  expect(failures).toEqual([]);
  expect(readings.length).toBeGreaterThan(100);
  for (const { finishReason, lastSeq } of readings) {
    expect(["stop", "length"]).toContain(finishReason);
    expect(lastSeq).toBeGreaterThan(0);
  }
  const last = readings.at(-1);
  if (last === undefined) throw new Error("Nobody has read anything.");
  expect(await recorded(stage, last)).toMatchObject({ status: "completed" });
}, 60_000);
