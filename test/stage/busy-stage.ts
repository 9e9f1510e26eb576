import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "../../client/client.ts";
import { eventually } from "../support/eventually.ts";
import { operator, type Status } from "./operator.ts";
import { type Reading, read } from "./reading.ts";
import {
  dataFolder,
  interrupt,
  removeFolder,
  type SpawnedStage,
  spawnStage,
} from "./spawned-stage.ts";

/** A stage on which twenty clients chat all the time, and rollouts of its model. */

const model = "axon-guide";
const chatters = 20;
/** An answer that takes longer has failed. */
const longestAnswerMs = 60_000;

/** What every rollout asks for: enough to be seen, and soon over. */
export const request = {
  bakeMs: 1_000,
  gates: { minimumTurns: 3, errorRate: 0, interTokenP95Ms: 250, slowdown: null },
  timeouts: {
    ...{ capacityMs: 20_000, formMs: 30_000, stepMs: 90_000 },
    ...{ drainMs: 60_000, settleMs: 1_000 },
  },
};

/** The state in the end, and what became of the rollout. */
type Ended = Pick<Status, "promoted" | "weights" | "groups"> & {
  past: Status["past"][number];
};

export interface BusyStage {
  stage: SpawnedStage;
  /** Undefined while nobody answers. */
  status(): Promise<Status | undefined>;
  start(rolloutId: string, revision: string, more?: object): Promise<unknown>;
  /**
   * Waits for the end of a rollout and of what it has to tidy up.
   * @param during sees each state that is seen meanwhile.
   */
  ended(rolloutId: string, during?: (now: Status) => Promise<void>): Promise<Ended>;
  /** Kills the control plane, or a group, also one that is starting. @returns whether there was one. */
  kill(what: "control plane" | { groupId: string }): Promise<boolean>;
  /** Ids of the groups that run. */
  running(): Promise<string[]>;
  /** What was read so far, and what went wrong of it. */
  readings: (Reading & { tookMs: number })[];
  failures: unknown[];
  /** Lets the clients finish what they read. */
  quiet(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * @param revisions those that it can be rolled out to, by name: ranks, and what is added to the environment.
 * @param limits tokens of an answer, how long each takes, and how long a rollout may take, ms.
 */
export async function busyStage(
  revisions: Readonly<Record<string, { ranks?: number; env?: object }>>,
  {
    maxTokens = 24,
    msPerToken = 50,
    rolloutMs = 150_000,
  }: { maxTokens?: number; msPerToken?: number; rolloutMs?: number } = {},
): Promise<BusyStage> {
  const dataDir = await dataFolder();
  await mkdir(join(dataDir, "revisions"), { recursive: true });
  for (const [name, { ranks = 1, env = {} }] of Object.entries(revisions)) {
    const file = { model, path: join("models", model), ranks, env };
    await writeFile(join(dataDir, "revisions", `${name}.json`), JSON.stringify(file));
  }
  const stage = await spawnStage(dataDir, {
    args: ["--tp", "1"],
    env: {
      AXON_MS_PER_TOKEN: String(msPerToken),
      AXON_RATE_PER_MINUTE: "100000",
      AXON_RATE_BURST: "1000",
      AXON_TENANT_IN_FLIGHT: "64",
      AXON_SETTLE_MS: "1000",
    },
  });
  const crowd = await chatting(stage, maxTokens);
  const status = () =>
    operator(stage, { command: "status" }).then(
      (answer) => answer.status,
      () => undefined,
    );
  return {
    ...{ stage, status, ...crowd },
    start: (rolloutId, revision, more = {}) =>
      operator(stage, { command: "start", rolloutId, revision, by: "test", ...request, ...more }),
    ended: (rolloutId, during) => endOf({ stage, status, withinMs: rolloutMs }, rolloutId, during),
    async kill(what) {
      const pid =
        what === "control plane"
          ? (await stage.file()).parts.find(({ name }) => name === what)?.pid
          : processOf(stage, what.groupId);
      if (pid === undefined) return false;
      process.kill(pid, "SIGKILL");
      return true;
    },
    async running() {
      return (await stage.file()).parts.flatMap(({ groupId }) => groupId ?? []);
    },
    async stop() {
      await crowd.quiet();
      await interrupt(stage);
      await removeFolder(dataDir);
    },
  };
}

/** A group's leader is a child of the stage; stage.json has it only once it is ready. */
function processOf({ process: { pid } }: SpawnedStage, groupId: string): number | undefined {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
  return children.map(Number).find((child) => {
    try {
      const environment = readFileSync(`/proc/${child}/environ`, "utf8").split("\0");
      return environment.includes(`AXON_GROUP_ID=${groupId}`);
    } catch {
      // It has ended meanwhile.
      return false;
    }
  });
}

async function chatting(stage: SpawnedStage, maxTokens: number) {
  const readings: BusyStage["readings"] = [];
  const failures: unknown[] = [];
  const enough = new AbortController();
  const clients = await Promise.all(Array.from({ length: chatters }, () => stage.client()));

  async function chat(client: Client, who: number): Promise<void> {
    for (let n = 0; !enough.signal.aborted; n++) {
      const prompt = `Question ${n} of ${who}: what is a rank?`;
      const turn = client.chat({ prompt, sampling: { maxTokens } });
      const askedAt = Date.now();
      try {
        readings.push({ ...(await read(turn)), tookMs: Date.now() - askedAt });
      } catch (error) {
        failures.push(error);
      }
      await sleep(500);
    }
  }

  const chats = clients.map(chat);
  async function quiet(): Promise<void> {
    enough.abort();
    await Promise.race([Promise.all(chats), sleep(longestAnswerMs, undefined, { ref: false })]);
    for (const client of clients) client.close();
  }
  return { readings, failures, quiet };
}

async function endOf(
  { stage, status, withinMs }: Pick<BusyStage, "stage" | "status"> & { withinMs: number },
  rolloutId: string,
  during: (now: Status) => Promise<void> = async () => {},
): Promise<Ended> {
  let last: Status | undefined;
  try {
    return await eventually(async () => {
      const now = await status();
      if (now === undefined) return false;
      last = now;
      await during(now);
      const past = now.past.find((one) => one.rolloutId === rolloutId);
      return past !== undefined && now.status === "serving" && { ...now, past };
    }, withinMs);
  } catch (cause) {
    const { history } = await operator(stage, { command: "history", limit: 15 });
    throw new Error(`${rolloutId} has not ended: ${JSON.stringify({ last, history })}`, { cause });
  }
}
