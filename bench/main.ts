import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { connect } from "../client/client.ts";
import { startEmbeddedEngine } from "../dataplane/engine/embedded.ts";
import type { Engine } from "../dataplane/engine/engine.ts";
import { loadTokenizer } from "../dataplane/tokenizer.ts";
import { tokensPerStep } from "../dataplane/worker-defaults.ts";
import { type Stage, startStage } from "../local/stage.ts";
import { type Arrivals, type Latencies, latenciesOf, spread, table } from "./statistics.ts";

/**
 * What the whole stage adds to the engine: the same prompts, once straight into the engine, once
 * through client, gateway, handlers, queue, leader, Redis and relay. Both run the same ranks on the
 * same machine, one after the other, in several rounds that take turns.
 */
const bundled = join(import.meta.dirname, "..", "models", "axon-guide");
const { values } = parseArgs({
  options: { model: { type: "string", default: bundled }, help: { type: "boolean" } },
});
if (values.help) {
  console.log("npm run bench -- [--model PATH]: the stage beside its engine (models/axon-guide)");
  process.exit(0);
}
const modelDir = resolve(values.model);
const ranks = 2;
const slots = 16;
const maxTokens = 40;
const rounds = 3;
const prompts = [
  "Tell me a long story about a fox.",
  "Tell me a story about a lighthouse.",
  "Give me a tour of Axon.",
  "Tell me everything about leases.",
];

/** Every answer runs to the limit or its own end; the seed makes it the same in both runs. */
const sampling = { temperature: 0, topK: 0, topP: 1, seed: 1 };
const engineSampling = { ...sampling, minP: 0, repetitionPenalty: 1 };

type Ask = (prompt: string) => Promise<Arrivals>;

function askEngine(engine: Engine, encode: (prompt: string) => number[]): Ask {
  let id = 0;
  return async (prompt) => {
    const askedAt = performance.now();
    const arrivals: Arrivals = [];
    const events = engine.generate({
      id: String(id++),
      promptTokens: encode(prompt),
      emittedTokens: [],
      maxTokens,
      sampling: engineSampling,
      signal: new AbortController().signal,
    });
    for await (const event of events) {
      if (event.type === "token") arrivals.push(performance.now() - askedAt);
    }
    return arrivals;
  };
}

function askStage(stage: Stage): { ask: Ask; close: () => void } {
  const url = stage.url.replace("http", "ws");
  const client = connect({ url, credential: stage.credential });
  return {
    close: () => client.close(),
    async ask(prompt) {
      const askedAt = performance.now();
      const arrivals: Arrivals = [];
      const turn = client.chat({ prompt, sampling: { ...sampling, maxTokens } });
      for await (const update of turn) {
        if (update.type !== "text") continue;
        const at = performance.now() - askedAt;
        for (let seq = update.from; seq <= update.to; seq++) arrivals.push(at);
      }
      return arrivals;
    },
  };
}

/** `chats` answers at the same time; with one, several after each other. */
async function load(ask: Ask, chats: number): Promise<Latencies> {
  const startedAt = performance.now();
  const promptOf = (i: number) => prompts[i % prompts.length] ?? "";
  const answers: Arrivals[] = [];
  if (chats === 1) {
    for (let i = 0; i < 2 * prompts.length; i++) answers.push(await ask(promptOf(i)));
  } else {
    const all = Array.from({ length: chats }, (_, i) => ask(promptOf(i)));
    answers.push(...(await Promise.all(all)));
  }
  return latenciesOf(answers, performance.now() - startedAt);
}

function merge(all: readonly Latencies[]): Latencies {
  return {
    firstTokenMs: all.flatMap(({ firstTokenMs }) => firstTokenMs),
    interTokenMs: all.flatMap(({ interTokenMs }) => interTokenMs),
    tokensPerSecond: all.reduce((sum, each) => sum + each.tokensPerSecond, 0) / all.length,
  };
}

/** Resident memory of a process, MB (proc_pid_status(5)). Pages that several share count for each. */
async function residentMb(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) / 1024;
}

/** Memory of the process and, for PostgreSQL, of its children, without what they share (PSS). */
async function proportionalMb(pid: number): Promise<number> {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, "utf8").catch(() => "");
  const own = Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) / 1024;
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  const pids = children.trim().split(" ").filter(Boolean).map(Number);
  const shares = await Promise.all(pids.map(proportionalMb));
  return own + shares.reduce((sum, share) => sum + share, 0);
}

async function memory(stage: Stage): Promise<string> {
  const rows: string[][] = [];
  let [resident, proportional] = [0, 0];
  const add = async (name: string, pid: number, withChildren: boolean) => {
    const rss = await residentMb(pid);
    const pss = withChildren ? await proportionalMb(pid) : await proportionalOf(pid);
    resident += rss;
    proportional += pss;
    rows.push([name, rss.toFixed(0), pss.toFixed(0)]);
  };
  await add("supervisor, SQS and DynamoDB (this process)", process.pid, false);
  for (const { name, pid, ranks: members = [] } of stage.parts()) {
    if (pid === undefined || pid === process.pid) continue;
    await add(name, pid, name === "postgresql");
    for (const { rank, pid: rankPid } of members) {
      if (rankPid !== pid) await add(`rank ${rank}`, rankPid, false);
    }
  }
  rows.push(["all", resident.toFixed(0), proportional.toFixed(0)]);
  return table(["part, idle", "RSS, MB", "PSS, MB"], rows);
}

async function proportionalOf(pid: number): Promise<number> {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, "utf8").catch(() => "");
  return Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) / 1024;
}

async function measureEngine(chats: number): Promise<Latencies> {
  const tokenizer = await loadTokenizer(modelDir);
  const encode = (content: string) => tokenizer.encodeChat([{ role: "user", content }]);
  const engine = await startEmbeddedEngine({
    ...{ modelDir, ranks, slots, tokensPerStep, transport: "threads" },
  });
  const ask = askEngine(engine, encode);
  await load(ask, 1);
  const result = await load(ask, chats);
  await engine.close();
  return result;
}

async function measureStage(
  chats: number,
  dataDir: string,
): Promise<Latencies & { readyMs: number; memory: string }> {
  const startedAt = performance.now();
  // All chats are one tenant's, and are to load the engine.
  const env = { AXON_SLOTS: String(slots), AXON_TENANT_IN_FLIGHT: String(chats) };
  const stage = await startStage({ dataDir, port: 0, ranks, modelDir, env });
  const readyMs = performance.now() - startedAt;
  await sleep(3_000);
  const idle = await memory(stage);
  const { ask, close } = askStage(stage);
  await load(ask, 1);
  const result = await load(ask, chats);
  close();
  await stage.stop();
  return { ...result, readyMs, memory: idle };
}

const dataDir = await mkdtemp(join(tmpdir(), "axon-bench-"));
await chmod(dataDir, 0o755);
const rows: string[][] = [];
let ready: number[] = [];
let idle = "";
for (const chats of [1, 50]) {
  const engine: Latencies[] = [];
  const stage: Latencies[] = [];
  for (let round = 0; round < rounds; round++) {
    console.error(`${chats} chats, round ${round + 1} of ${rounds}`);
    engine.push(await measureEngine(chats));
    const measured = await measureStage(chats, dataDir);
    stage.push(measured);
    ready = [...ready, measured.readyMs];
    idle = measured.memory;
  }
  for (const [name, all] of [
    ["the engine alone", merge(engine)],
    ["the client of the stage", merge(stage)],
  ] as const) {
    const { firstTokenMs, interTokenMs, tokensPerSecond } = all;
    const figures = [spread(firstTokenMs), spread(interTokenMs), tokensPerSecond.toFixed(0)];
    rows.push([String(chats), name, ...figures]);
  }
}
await rm(dataDir, { recursive: true, force: true });
const head = [
  ...["chats", "seen by", "time to first token, ms (median / p99)"],
  ...["inter-token latency, ms (median / p99)", "tokens/s"],
];
const machine = `${cpus().length} × ${cpus()[0]?.model}, Node ${process.version}`;
console.log(`${basename(modelDir)} on ${machine}, tp ${ranks}\n`);
console.log(`${table(head, rows)}\n`);
const [first = 0, ...later] = ready;
console.log(
  `ready after ${(first / 1_000).toFixed(1)} s the first time, then ${spread(later)} ms\n`,
);
console.log(idle);
