import { setTimeout as sleep } from "node:timers/promises";
import { median } from "../statistics.ts";
import { busyShare } from "./busy-share.ts";
import type { Timed, TimedCommand } from "./commands.ts";
import { PeerProcess, type PeerProgram } from "./peer-process.ts";

/** What a round measures, and the values of its rounds, by peer. */
export interface Measure {
  name: string;
  unit: "tokens/s" | "ms" | "MB";
  values: Map<PeerProgram, number[]>;
}

export interface RoundPlan {
  rounds: number;
  /** How often each measurement is taken in a round, with other prompts; their median counts. */
  samples: number;
  batches: readonly number[];
  promptLengths: readonly number[];
  decodeTokens: number;
  vocabularySize: number;
  /** Runs while all peers wait. */
  betweenRounds: () => Promise<void>;
}

export interface RoundResults {
  measures: Measure[];
  /** Answers that began with the same token in all peers, of how many. */
  agreeing: number;
  compared: number;
  /** Of all processors, what was taken by others while all peers waited: 0 to 1. */
  busyShare: number;
}

/** Tokens of a prompt whose answer is decoded. */
export const decodePromptLength = 16;
/** Answers of the warm-up, decoded together; memory is measured after it. */
export const warmUpBatch = 8;
/** Threads that look for more work before they sleep do so for less than this. */
const settleMs = 300;
/** A machine is quiet when less than this share of its processors is in use for so long. */
const quietShare = 0.1;
const lookMs = 150;
const mostLooks = 20;
/** Ids below belong to bytes and special tokens in most vocabularies. */
const firstWord = 300;

/** Each peer's process is new in each round, and each round begins with another peer. */
export async function measureRounds(
  programs: readonly PeerProgram[],
  plan: RoundPlan,
): Promise<RoundResults> {
  const recorder = new Recorder();
  for (let round = 0; round < plan.rounds; round += 1) {
    const first = round % programs.length;
    const order = [...programs.slice(first), ...programs.slice(0, first)];
    const peers = await startPeers(order, recorder);
    const prompts = new Prompts(round + 1, plan.vocabularySize);
    for (const peer of peers) await warmUp(peer, plan, prompts, recorder);
    for (const { name, commands } of tasksOf(plan, prompts)) {
      const answers: Timed[][] = [];
      for (const peer of peers) {
        progress(`round ${round + 1} of ${plan.rounds}: ${name}, ${peer.program.name}`);
        recorder.busyShares.push(await untilQuiet());
        const timed: Timed[] = [];
        for (const command of commands) timed.push(await peer.time(command));
        const rates = timed.map(({ tokens, ms }) => (1_000 * tokens) / ms);
        recorder.add(name, "tokens/s", peer.program, median(rates));
        answers.push(timed);
      }
      recorder.compare(answers);
    }
    await Promise.all(peers.map((peer) => peer.close()));
    await plan.betweenRounds();
  }
  progress("");
  return recorder.results();
}

/**
 * Waits until the last peer sleeps, and a while for other programs. Returns the share of the
 * processors that those still take.
 */
async function untilQuiet(): Promise<number> {
  await sleep(settleMs);
  for (let look = 1; ; look += 1) {
    const share = await busyShare(lookMs);
    if (share < quietShare || look === mostLooks) return share;
  }
}

async function startPeers(
  programs: readonly PeerProgram[],
  recorder: Recorder,
): Promise<PeerProcess[]> {
  const peers: PeerProcess[] = [];
  for (const program of programs) {
    progress(`${program.name}: loading`);
    const { peer, loadMs } = await PeerProcess.start(program);
    recorder.add("time to load", "ms", program, loadMs);
    peers.push(peer);
    await sleep(settleMs);
  }
  return peers;
}

/** What a compiler needs to see before it does its best, and what takes memory once. */
async function warmUp(
  peer: PeerProcess,
  { decodeTokens, promptLengths }: RoundPlan,
  prompts: Prompts,
  recorder: Recorder,
): Promise<void> {
  progress(`${peer.program.name}: warm-up`);
  const batch = prompts.several(warmUpBatch, decodePromptLength);
  await peer.time({ name: "decode", tokens: decodeTokens, prompts: batch });
  recorder.add("memory", "MB", peer.program, (await peer.memoryBytes()) / 1e6);
  await peer.time({ name: "decode", tokens: decodeTokens, prompts: batch.slice(0, 1) });
  for (const length of promptLengths) {
    await peer.time({ name: "prefill", prompt: prompts.one(length) });
  }
}

function tasksOf(plan: RoundPlan, prompts: Prompts): { name: string; commands: TimedCommand[] }[] {
  const { batches, promptLengths, decodeTokens, samples } = plan;
  const repeat = (make: () => TimedCommand) => Array.from({ length: samples }, make);
  const decodes = batches.map((batch) => ({
    name: `decode, batch ${batch}`,
    commands: repeat(() => ({
      name: "decode",
      tokens: decodeTokens,
      prompts: prompts.several(batch, decodePromptLength),
    })),
  }));
  const prefills = promptLengths.map((length) => ({
    name: `prefill, ${length} tokens`,
    commands: repeat(() => ({ name: "prefill", prompt: prompts.one(length) })),
  }));
  return [...decodes, ...prefills];
}

/** Prompts of random words: no two have a beginning in common that a cache could know. */
class Prompts {
  #state: number;
  readonly #vocabularySize: number;

  constructor(seed: number, vocabularySize: number) {
    this.#state = seed * 2_654_435_761;
    this.#vocabularySize = vocabularySize;
  }

  one(length: number): number[] {
    return Array.from({ length }, () => {
      // xorshift32 (Marsaglia, "Xorshift RNGs", 2003).
      this.#state ^= this.#state << 13;
      this.#state ^= this.#state >>> 17;
      this.#state ^= this.#state << 5;
      return firstWord + ((this.#state >>> 0) % (this.#vocabularySize - firstWord));
    });
  }

  several(count: number, length: number): number[][] {
    return Array.from({ length: count }, () => this.one(length));
  }
}

class Recorder {
  readonly busyShares: number[] = [];
  readonly #measures = new Map<string, Measure>();
  #agreeing = 0;
  #compared = 0;

  add(name: string, unit: Measure["unit"], program: PeerProgram, value: number): void {
    const measure = this.#measures.get(name) ?? { name, unit, values: new Map() };
    this.#measures.set(name, measure);
    measure.values.set(program, [...(measure.values.get(program) ?? []), value]);
  }

  /** `answers` has those of each peer to the same prompts. */
  compare(answers: readonly Timed[][]): void {
    const [first, ...others] = answers.map((timed) => {
      return timed.flatMap(({ firstTokens }) => firstTokens);
    });
    if (first === undefined || others.length === 0) return;
    first.forEach((token, i) => {
      this.#compared += 1;
      if (others.every((tokens) => tokens[i] === token)) this.#agreeing += 1;
    });
  }

  /** Rates first, whatever was measured first. */
  results(): RoundResults {
    const measures = [...this.#measures.values()].sort(
      (a, b) => Number(a.unit !== "tokens/s") - Number(b.unit !== "tokens/s"),
    );
    const sum = this.busyShares.reduce((all, share) => all + share, 0);
    const counts = { agreeing: this.#agreeing, compared: this.#compared };
    return { measures, ...counts, busyShare: sum / this.busyShares.length };
  }
}

/** A line on stderr that the next one replaces, on a terminal. */
function progress(line: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`);
  else if (line !== "") console.error(line);
}
