import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { expect, onTestFinished, test } from "vitest";
import { leadGroup } from "../../dataplane/group-roll.ts";
import { defineScripts } from "../../dataplane/scripts.ts";
import { eventually } from "../support/eventually.ts";
import {
  type GroupSettings,
  groupSettings,
  probe,
  type Running,
  startEngineProcess,
  startFollower,
  startLeader,
} from "./group-processes.ts";

/** Real processes, a real Redis, real signals: a dead node is noticed in 3 s. */

const noticedWithinMs = 3_000;
const engineName = () => `axon-engine-${randomBytes(6).toString("hex")}`;

interface Group {
  settings: GroupSettings;
  leader: Awaited<ReturnType<typeof startLeader>>;
  follower: Running;
  engine: Running;
  url: string;
}

async function startGroup(): Promise<Group> {
  const settings = await groupSettings();
  const name = engineName();
  const engine = startEngineProcess(name);
  const follower = startFollower(settings, { rank: 1, engine: name });
  const leader = await startLeader(settings);
  const url = await leader.probes();
  await eventually(async () => (await probe(`${url}/ready`)).status === 200, 10_000);
  return { settings, leader, follower, engine, url };
}

/** Waits for the leader's end, and returns how long it took. */
async function noticedAfter({ leader }: Group, happens: () => void): Promise<number> {
  // Past the first beats, at any moment between two.
  await new Promise((resolve) => setTimeout(resolve, 1_000 + Math.random() * 1_000));
  const startedAt = performance.now();
  happens();
  await eventually(() => leader.output().includes("the group has failed"), 10_000);
  const took = performance.now() - startedAt;
  expect(await leader.ended).toBe(1);
  return took;
}

function redisOf({ redisUrl }: GroupSettings): Redis {
  const redis = new Redis(redisUrl);
  defineScripts(redis);
  onTestFinished(() => redis.disconnect());
  return redis;
}

test.each(["SIGKILL", "SIGSTOP"] as const)(
  "a follower that gets %s ends the group",
  async (signal) => {
    const group = await startGroup();
    const took = await noticedAfter(group, () => void group.follower.child.kill(signal));
    expect(took).toBeLessThan(noticedWithinMs);
    expect(group.leader.output()).toContain("has not been heard of for 2.5 s");
  },
);

test.each(["SIGKILL", "SIGSTOP"] as const)(
  "an engine process on another node that gets %s is reported at once",
  async (signal) => {
    const group = await startGroup();
    const took = await noticedAfter(group, () => void group.engine.child.kill(signal));
    expect(took).toBeLessThan(1_000);
    expect(group.leader.output()).toContain("Follower 1 is gone: axon-engine-");
    expect(await group.follower.ended).toBe(1);
  },
);

test("a group is not ready before its followers are there, and closes them when it drains", async () => {
  const settings = await groupSettings();
  const leader = await startLeader(settings);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(leader.output()).not.toContain('"message":"ready"');
  const name = engineName();
  startEngineProcess(name);
  const follower = startFollower(settings, { rank: 1, engine: name });
  const url = await leader.probes();
  expect(await probe(`${url}/live`)).toEqual({ status: 200, body: "ok" });
  // The follower's pod is told to end at the same moment, and stays while the leader has turns.
  follower.child.kill("SIGTERM");
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(follower.child.exitCode).toBe(null);
  leader.child.kill("SIGTERM");
  expect(await leader.ended).toBe(0);
  expect(await follower.ended).toBe(0);
});

test("a follower whose group has been formed anew ends; one that came early moves on", async () => {
  const settings = await groupSettings();
  const redis = redisOf(settings);
  const name = engineName();
  startEngineProcess(name);
  const lead = (epoch: number, state: "opening" | "forming" | "ready") =>
    leadGroup(redis, settings.groupId, { epoch, state });
  const hasJoined = async (epoch: number, state: "forming" | "ready") =>
    (await lead(epoch, state)).beats.get(1)?.epoch === epoch;

  // What an earlier group has left behind is no group to join.
  const { epoch: old } = await lead(Date.now(), "opening");
  await lead(old, "ready");
  const follower = startFollower(settings, { rank: 1, engine: name });
  await eventually(() => follower.output().includes('"message":"ready"'));
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect((await lead(old, "ready")).beats.size).toBe(0);

  const { epoch: first } = await lead(old, "opening");
  expect(first).toBe(old + 1);
  await eventually(() => hasJoined(first, "forming"));
  const { epoch: second } = await lead(first, "opening");
  await eventually(() => hasJoined(second, "forming"));
  await lead(second, "ready");
  await new Promise((resolve) => setTimeout(resolve, 1_200));
  await lead(second, "opening");
  expect(await follower.ended).toBe(1);
  expect(follower.output()).toContain("superseded");
});

test("a follower on a node whose NCCL uses sockets says so, and the group does not form", async () => {
  const settings = await groupSettings();
  const logs = mkdtempSync(join(tmpdir(), "axon-nccl-"));
  onTestFinished(() => rmSync(logs, { recursive: true }));
  const name = engineName();
  startEngineProcess(name);
  const follower = startFollower(settings, { rank: 1, engine: name, AXON_NCCL_LOGS: logs });
  const redis = redisOf(settings);
  const { epoch } = await leadGroup(redis, settings.groupId, { epoch: 1, state: "opening" });
  const beat = async () =>
    (await leadGroup(redis, settings.groupId, { epoch, state: "forming" })).beats.get(1);
  await eventually(beat);
  writeFileSync(join(logs, "node-1.77.log"), "node-1:77:77 [0] NCCL INFO Using network Socket\n");
  expect(await follower.ended).toBe(1);
  expect((await beat())?.gone).toContain("NCCL does not use EFA. node-1.77.log says");
});
