import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { SendMessageCommand } from "@aws-sdk/client-sqs";
import { isRunning } from "../stage/spawned-stage.ts";
import { eventually } from "../support/eventually.ts";
import type { Fault, FaultKind } from "./plan.ts";
import type { StageUnderFaults } from "./stage-under-faults.ts";

/** How each fault is done. An action resolves when the fault is over, and says whom it has met. */
type Action = (stage: StageUnderFaults, fault: Fault) => Promise<string>;

const leaders = ["group", "group 2"];
const relays = ["relay", "relay 2"];

const actions: Record<FaultKind, Action> = {
  "kill leader": (stage, { pick }) => kill(stage, oneOf(leaders, pick)),
  "kill relay": (stage, { pick }) => kill(stage, oneOf(relays, pick)),
  "kill control plane": (stage) => kill(stage, "control plane"),
  "kill rank": killRank,
  "pause leader": (stage, { pick, ms }) => pause(stage, oneOf(leaders, pick), ms),
  "pause relay": (stage, { pick, ms }) => pause(stage, oneOf(relays, pick), ms),
  "pause control plane": (stage, { ms }) => pause(stage, "control plane", ms),
  "drop socket": async (stage, { pick }) => {
    const { clients } = stage;
    oneOf(clients, pick).cut();
    return `of client ${clients.indexOf(oneOf(clients, pick))}`;
  },
  "restart Redis": (stage) => kill(stage, "redis"),
  "restart Redis empty": async (stage) => {
    await signalPart(stage, "redis", 0);
    // Before it dies: it might be there again sooner than its files are gone.
    await stage.forgetRedis();
    return kill(stage, "redis");
  },
  "duplicate job": duplicateJob,
  "Redis outage": (stage, { ms }) => pause(stage, "redis", ms),
  "PostgreSQL outage": (stage, { ms }) => pause(stage, "postgresql", ms),
  "SQS outage": (stage, fault) => proxyOutage(stage.sqsProxy, fault),
  "DynamoDB outage": (stage, fault) => proxyOutage(stage.dynamoDbProxy, fault),
};

export function carryOut(stage: StageUnderFaults, fault: Fault): Promise<string> {
  return actions[fault.kind](stage, fault);
}

function oneOf<T>(items: readonly T[], pick: number): T {
  const item = items[Math.floor(pick * items.length)];
  if (item === undefined) throw new Error("There is none to pick.");
  return item;
}

/** How long a fault waits for somebody to happen to: what has just died is started again. */
const waitMs = 30_000;

/** Sends a signal to a part as soon as it lives. @returns its pid. */
const signalPart = (stage: StageUnderFaults, part: string, signal: NodeJS.Signals | 0) =>
  eventually(async () => {
    const pid = await stage.pidOf(part);
    return isRunning(pid) && process.kill(pid, signal) && pid;
  }, waitMs);

async function kill(stage: StageUnderFaults, part: string): Promise<string> {
  const pid = await signalPart(stage, part, "SIGKILL");
  await eventually(() => !isRunning(pid));
  return `${part}, pid ${pid}`;
}

async function killRank(stage: StageUnderFaults, { pick }: Fault): Promise<string> {
  return eventually(async () => {
    const { parts } = await stage.stage.file();
    const ranks = parts.flatMap(({ pid, ranks: all = [] }) => all.filter((one) => one.pid !== pid));
    const { rank, pid } = oneOf(ranks, pick);
    return isRunning(pid) && process.kill(pid, "SIGKILL") && `rank ${rank}, pid ${pid}`;
  }, waitMs);
}

/** Stops a process and, PostgreSQL having several, its children, as a machine stops that has no time. */
async function pause(stage: StageUnderFaults, part: string, ms: number): Promise<string> {
  const pid = await signalPart(stage, part, "SIGSTOP");
  const pids = part === "postgresql" ? [pid, ...childrenOf(pid)] : [pid];
  for (const each of pids) signalIfThere(each, "SIGSTOP");
  try {
    await sleep(ms);
  } finally {
    for (const each of pids.toReversed()) signalIfThere(each, "SIGCONT");
  }
  return `${part}, pid ${pid}, ${ms} ms`;
}

/** Who is stopped can be killed meanwhile. */
function signalIfThere(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);

/** The job of a turn that runs, once more: at once, or later, when the turn has perhaps ended. */
async function duplicateJob(stage: StageUnderFaults, { pick }: Fault): Promise<string> {
  const MessageBody = await eventually(async () => {
    const keys = await stage.redis.keys("turn:*:job");
    if (keys.length === 0) return undefined;
    return (await stage.redis.get(oneOf(keys, pick))) ?? undefined;
  }, waitMs);
  const QueueUrl = (await stage.stage.file()).queues.jobs.url;
  // The same pick must not always mean the same delay.
  const DelaySeconds = Math.floor((pick * 1_000) % 10);
  await stage.sqs.send(new SendMessageCommand({ QueueUrl, MessageBody, DelaySeconds }));
  return `of a running turn, after ${DelaySeconds} s`;
}

async function proxyOutage(
  proxy: StageUnderFaults["sqsProxy"],
  { pick, ms }: Fault,
): Promise<string> {
  const mode = pick < 0.5 ? "hangs" : "refuses";
  await proxy.outage(mode, ms);
  return `${mode} for ${ms} ms`;
}
