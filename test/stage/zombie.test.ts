import { setTimeout as sleep } from "node:timers/promises";
import { GetQueueAttributesCommand, SQSClient } from "@aws-sdk/client-sqs";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import type { Client } from "../../client/client.ts";
import type { Turn } from "../../client/turn.ts";
import { readEntries } from "../../dataplane/token-stream.ts";
import { turnTokensKey } from "../../events/redis-keys.ts";
import { eventually } from "../support/eventually.ts";
import { read, recorded } from "./reading.ts";
import {
  dataFolder,
  interrupt,
  removeFolder,
  type SpawnedStage,
  spawnStage,
} from "./spawned-stage.ts";

/** A leader that stands still for longer than its leases last, and then goes on as if nothing was. */

/** Four times a lease, and longer than a delivery of its jobs stays hidden. */
const standstillMs = 10_000;

let stage: SpawnedStage;
let client: Client;
let redis: Redis;
let sqs: SQSClient;
beforeAll(async () => {
  stage = await spawnStage(await dataFolder(), {
    args: ["--groups", "2", "--tp", "1"],
    // The long answer takes 20 s: it runs when the leader comes back to life.
    env: { AXON_MS_PER_TOKEN: "80", AXON_SLOTS: "4" },
  });
  const { parts, queues } = await stage.file();
  client = await stage.client();
  redis = new Redis(parts.find(({ name }) => name === "redis")?.address ?? "");
  const credentials = { accessKeyId: "local", secretAccessKey: "local" };
  sqs = new SQSClient({ endpoint: queues.endpoint, region: "us-east-1", credentials });
});
afterAll(async () => {
  client.close();
  redis.disconnect();
  sqs.destroy();
  await interrupt(stage);
  await removeFolder(stage.dataDir);
});

const long = { prompt: "Tell me a long story about a fox.", sampling: { temperature: 0 } };
const short = {
  prompt: "Tell me a story about a lighthouse.",
  sampling: { temperature: 0, maxTokens: 50 },
};

const eventsSchema = z.object({
  events: z.array(
    z.looseObject({
      type: z.string(),
      groupId: z.string().optional(),
      emittedTokens: z.number().optional(),
    }),
  ),
});

async function eventsOf({ turnId }: Turn) {
  const { body } = await stage.get(`/api/turns/${turnId}/events`);
  return eventsSchema.parse(body).events;
}

/** The group that has claimed a turn first. */
const firstGroupOf = (turn: Turn) =>
  eventually(
    async () => (await eventsOf(turn)).find(({ type }) => type === "TurnStarted")?.groupId,
  );

/** Asks until an answer begins in the group. */
async function askIn(groupId: string): Promise<Turn> {
  for (;;) {
    const turn = client.chat(short);
    if ((await firstGroupOf(turn)) === groupId) return turn;
    turn.cancel();
    await turn.text();
  }
}

/** Which epoch has written how many tokens, in the order of the stream. */
async function writersOf({ turnId = "" }: Turn): Promise<[epoch: number, tokens: number][]> {
  const { tokens } = readEntries(await redis.xrange(turnTokensKey(turnId), "-", "+"));
  const writers: [number, number][] = [];
  for (const { epoch } of tokens) {
    const last = writers.at(-1);
    if (last?.[0] === epoch) last[1]++;
    else writers.push([epoch, 1]);
  }
  return writers;
}

async function jobsInQueue(): Promise<number> {
  const { queues } = await stage.file();
  const names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"] as const;
  const { Attributes = {} } = await sqs.send(
    new GetQueueAttributesCommand({ QueueUrl: queues.jobs.url, AttributeNames: [...names] }),
  );
  return names.reduce((sum, name) => sum + Number(Attributes[name]), 0);
}

const endedTypes = ["TurnRequested", "TurnStarted", "TurnTakenOver", "TurnCompleted"];
const typesOf = async (turn: Turn) => (await eventsOf(turn)).map(({ type }) => type);

const idsOf = ({ turnId = "", conversationId = "" }: Turn) => ({ turnId, conversationId });

/** The processes that lead the group, and the other one. */
async function leadersOf(groupId: string): Promise<{ pid: number; otherPid: number }> {
  const groups = (await stage.file()).parts.filter((part) => part.groupId !== undefined);
  const leads = (is: boolean) => groups.find((part) => (part.groupId === groupId) === is)?.pid;
  const [pid, otherPid] = [leads(true), leads(false)];
  if (pid === undefined || otherPid === undefined) throw new Error("There are not two groups.");
  return { pid, otherPid };
}

/** Stops a process while `act` runs. */
async function whileStopped(pid: number, act: () => Promise<unknown>): Promise<void> {
  process.kill(pid, "SIGSTOP");
  try {
    await act();
  } finally {
    process.kill(pid, "SIGCONT");
  }
}

/** It ended once, and of its two writers the first has said not one token after the takeover. */
async function expectTakenOverOnce(turn: Turn): Promise<void> {
  await recorded(stage, idsOf(turn));
  const events = await eventsOf(turn);
  expect(events.map(({ type }) => type)).toEqual(endedTypes);
  const writers = await writersOf(turn);
  expect(writers).toHaveLength(2);
  expect(writers[0]?.[1]).toBe(events.find(({ type }) => type === "TurnTakenOver")?.emittedTokens);
  expect(writers[1]?.[0]).toBeGreaterThan(writers[0]?.[0] ?? Number.NaN);
}

let wholeLong: string;
let wholeShort: string;
beforeAll(async () => {
  [wholeLong, wholeShort] = await Promise.all([
    client.chat(long).text(),
    client.chat(short).text(),
  ]);
});

test("a leader that was away just long enough to lose its turn can neither write nor delete", async () => {
  const turn = client.chat(long);
  const groupId = (await firstGroupOf(turn)) ?? "";
  const reading = read(turn);
  await eventually(() => turn.progress.after > 3);
  const { pid, otherPid } = await leadersOf(groupId);
  await whileStopped(pid, () =>
    eventually(async () => (await typesOf(turn)).includes("TurnTakenOver")),
  );
  // The one that has the turn now stops for less than its lease. The other one, who is hardly behind,
  // would come to tokens that nobody has written yet. Its receipt of the job is still good.
  await whileStopped(otherPid, () => sleep(1_200));
  await sleep(1_500);
  expect(await jobsInQueue()).toBe(1);
  expect((await reading).text).toBe(wholeLong);
  await expectTakenOverOnce(turn);
  await eventually(async () => (await jobsInQueue()) === 0, 20_000);
});

test("a leader that comes back from a standstill has nothing to say, and goes on with new work", async () => {
  const longTurn = client.chat(long);
  const groupId = (await firstGroupOf(longTurn)) ?? "";
  const shortTurn = await askIn(groupId);
  const readings = Promise.all([read(longTurn), read(shortTurn)]);
  await eventually(() => longTurn.progress.after > 3 && shortTurn.progress.after > 3);
  const { pid } = await leadersOf(groupId);
  await whileStopped(pid, async () => {
    await sleep(standstillMs);
    // The other has ended the short one by now, and is in the middle of the long one.
    await recorded(stage, idsOf(shortTurn));
    expect(await typesOf(longTurn)).toEqual(endedTypes.slice(0, 3));
  });

  // Its timers have all run: what it would do with the leases and the jobs, it has done.
  await sleep(3_000);
  expect(await typesOf(longTurn)).toEqual(endedTypes.slice(0, 3));
  expect(await jobsInQueue()).toBeGreaterThanOrEqual(1);
  expect((await readings).map(({ text }) => text)).toEqual([wholeLong, wholeShort]);
  for (const turn of [longTurn, shortTurn]) await expectTakenOverOnce(turn);
  await eventually(async () => (await jobsInQueue()) === 0, 20_000);

  // The same process, and it works.
  expect((await leadersOf(groupId)).pid).toBe(pid);
  const again = await askIn(groupId);
  expect(await again.text()).toBe(wholeShort);
});
