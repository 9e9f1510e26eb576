import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { describe, expect, test } from "vitest";
import { ClusterError } from "../../events/cluster-port.ts";
import { startChild } from "../../local/child-process.ts";
import { LocalGroups } from "../../local/cluster/group-supervisor.ts";
import { localCluster } from "../../local/cluster/local-port.ts";
import {
  answerGroups,
  type ParentProcess,
  supervisorOf,
} from "../../local/cluster/supervisor-link.ts";
import { openWanted } from "../../local/cluster/wanted.ts";
import { StageError } from "../../local/part.ts";
import { eventually } from "../support/eventually.ts";
import { freshRedis } from "../support/parts.ts";
import { type ClusterUnderTest, clusterPortContract } from "./cluster-port.contract.ts";

/** Groups as processes of this machine, behind the link that the control plane has to its supervisor. */

const groupScript = new URL("./group-process.ts", import.meta.url);

function supervisor(folder: string, starts: string[] = []): LocalGroups {
  const groups = new LocalGroups({
    wanted: openWanted(join(folder, "cluster.json")),
    room: 6,
    note: () => {},
    changed: () => {},
    start({ groupId, revision }, signal) {
      starts.push(groupId);
      if (!/^[ro]\d$/.test(revision) || revision === "r9") {
        throw new StageError("model_missing", `There is no revision ${revision} here.`);
      }
      return startChild({
        ...{ name: groupId, script: groupScript, signal, logFile: join(folder, `${groupId}.log`) },
        env: { ...process.env, AXON_GROUP_ID: groupId },
        ...{ readyWithinMs: 20_000, stopWithinMs: 5_000 },
      });
    },
  });
  groups.resume("llama");
  return groups;
}

/** Two ends of an IPC channel, which may be cut. */
function linked(groups: () => LocalGroups, isCut: () => boolean): ParentProcess {
  let hear: (message: unknown) => void = () => {};
  const wire = (message: unknown) => JSON.parse(JSON.stringify(message)) as unknown;
  return {
    send(message) {
      if (isCut()) return;
      answerGroups(groups(), wire(message), (answer) => setImmediate(() => hear(wire(answer))));
    },
    on: (_event, listener) => {
      hear = listener;
    },
  };
}

async function start(): Promise<ClusterUnderTest> {
  const folder = mkdtempSync(join(tmpdir(), "axon-cluster-"));
  const redis = new Redis(await freshRedis());
  let groups = supervisor(folder);
  let isCut = false;
  const adapter = () =>
    localCluster({
      supervisor: supervisorOf(
        linked(
          () => groups,
          () => isCut,
        ),
        { answerWithinMs: 500 },
      ),
      redis,
      openQueue: async () => {},
    });
  const childOf = (groupId: string) =>
    groups.list().find((group) => group.groupId === groupId)?.child;
  return {
    ...{ port: adapter(), redis },
    async restarted() {
      await groups.stop();
      groups = supervisor(folder);
      return adapter();
    },
    runs: (groupId) => childOf(groupId) !== undefined,
    async kill(groupId) {
      const pid = childOf(groupId)?.pid ?? 0;
      process.kill(pid, "SIGKILL");
      await eventually(() => childOf(groupId)?.pid !== pid);
    },
    async breakDown() {
      isCut = true;
    },
    async close() {
      await groups.stop();
      redis.disconnect();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

describe("this machine as a cluster", () => {
  clusterPortContract(start);

  test("a supervisor that is killed goes on with what was ordered, and with nothing else", async () => {
    const folder = mkdtempSync(join(tmpdir(), "axon-cluster-"));
    const spec = { model: "llama", revision: "r1" };
    const first = supervisor(folder);
    await first.follow({ type: "CreateGroup", ...spec, groupId: "r1-0" });
    await first.follow({ type: "CreateGroup", ...spec, groupId: "r1-1" });
    await first.follow({ type: "DeleteGroup", ...spec, groupId: "r1-0" });
    await first.stop();
    const starts: string[] = [];
    const next = supervisor(folder, starts);
    expect((await next.view("llama")).groups.map(({ groupId }) => groupId)).toEqual(["r1-1"]);
    await next.stop();
    expect(starts).toEqual(["r1-1"]);
    rmSync(folder, { recursive: true });
  });

  test("a group can be deleted while it starts, however long that takes", async () => {
    const folder = mkdtempSync(join(tmpdir(), "axon-cluster-"));
    let isStopped = false;
    const groups = new LocalGroups({
      ...{ wanted: openWanted(join(folder, "cluster.json")), room: 1 },
      ...{ note: () => {}, changed: () => {} },
      start: (_spec, signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => {
            isStopped = true;
            reject(new Error("is not wanted any more"));
          });
        }),
    });
    const spec = { model: "llama", revision: "r1", groupId: "r1-0" };
    await groups.follow({ type: "CreateGroup", ...spec });
    const second = groups.follow({ type: "CreateGroup", ...spec, groupId: "r1-1" });
    await expect(second).rejects.toMatchObject({ code: "quota" });
    await groups.follow({ type: "DeleteGroup", ...spec });
    await eventually(async () => (await groups.view("llama")).groups.length === 0);
    expect(isStopped).toBe(true);
    await groups.stop();
    const late = groups.follow({ type: "CreateGroup", ...spec });
    await expect(late).rejects.toBeInstanceOf(ClusterError);
    rmSync(folder, { recursive: true });
  });
});
