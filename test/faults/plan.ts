/** What happens in a run, and when: drawn from a seed, so that a run can be had again. */

export const faultKinds = [
  "kill leader",
  "kill rank",
  "kill relay",
  "kill control plane",
  "pause leader",
  "pause relay",
  "pause control plane",
  "drop socket",
  "restart Redis",
  "restart Redis empty",
  "duplicate job",
  "Redis outage",
  "PostgreSQL outage",
  "SQS outage",
  "DynamoDB outage",
] as const;
export type FaultKind = (typeof faultKinds)[number];

export interface Fault {
  atMs: number;
  kind: FaultKind;
  /** From 0 to below 1: which of those that there are at that moment. */
  pick: number;
  /** How long it lasts, where it lasts. */
  ms: number;
}

/** Turns that follow each other in one conversation. */
export interface Dialogue {
  prompts: readonly string[];
  sampling: { temperature: number; seed: number; maxTokens: number };
}

interface Ask {
  atMs: number;
  /** Index of `dialogues`. */
  dialogue: number;
  /** From 0 to below 1: which client. */
  pick: number;
}

export interface Plan {
  asks: Ask[];
  faults: Fault[];
}

export interface PlanOptions {
  seed: number;
  turns: number;
  faults: number;
  /** Asks and faults are spread over so long. */
  spanMs: number;
  /** Whether ranks are processes that can be killed alone. */
  ranksAreProcesses: boolean;
}

export const dialogues: readonly Dialogue[] = [
  one("Tell me a long story about a fox.", { temperature: 0.8, seed: 7, maxTokens: 400 }),
  one("Tell me a story about a lighthouse.", { temperature: 0, seed: 1, maxTokens: 300 }),
  one("Give me a tour of Axon.", { temperature: 0.4, seed: 11, maxTokens: 300 }),
  one("Tell me everything about leases.", { temperature: 0.9, seed: 23, maxTokens: 300 }),
  one("What is a rank?", { temperature: 0, seed: 1, maxTokens: 60 }),
  one("Write about the sea.", { temperature: 1.2, seed: 99, maxTokens: 250 }),
  {
    prompts: ["Tell me a story about a baker.", "What happened then?"],
    sampling: { temperature: 0.7, seed: 5, maxTokens: 250 },
  },
  {
    prompts: ["What is the KV cache?", "And what is an epoch?"],
    sampling: { temperature: 0.3, seed: 3, maxTokens: 200 },
  },
];

function one(prompt: string, sampling: Dialogue["sampling"]): Dialogue {
  return { prompts: [prompt], sampling };
}

/** How often each kind stands in the deck that faults are dealt from: each comes in every long run. */
const deck: readonly (readonly [FaultKind, number])[] = [
  ["kill leader", 6],
  ["kill rank", 3],
  ["kill relay", 5],
  ["kill control plane", 3],
  ["pause leader", 5],
  ["pause relay", 4],
  ["pause control plane", 1],
  ["drop socket", 6],
  ["restart Redis", 2],
  ["restart Redis empty", 3],
  ["duplicate job", 4],
  ["Redis outage", 2],
  ["PostgreSQL outage", 2],
  ["SQS outage", 2],
  ["DynamoDB outage", 2],
];

/** Well beyond a lease for those who hold one; short enough for a store's users to wait. */
const longestMs = 6_000;
const shortestMs = 1_000;

export function planOf(options: PlanOptions): Plan {
  const random = randomFrom(options.seed);
  const { turns, faults, spanMs } = options;
  const kinds: FaultKind[] = [];
  while (kinds.length < faults) kinds.push(...shuffled(cards(options), random));
  return {
    asks: spread(dealtDialogues(turns, random), spanMs, random).map(({ atMs, item }) => ({
      ...{ atMs, dialogue: item, pick: random() },
    })),
    faults: spread(kinds.slice(0, faults), spanMs, random).map(({ atMs, item }) => ({
      ...{ atMs, kind: item, pick: random() },
      ms: Math.round(shortestMs + random() * (longestMs - shortestMs)),
    })),
  };
}

function cards({ ranksAreProcesses }: PlanOptions): FaultKind[] {
  return deck
    .filter(([kind]) => kind !== "kill rank" || ranksAreProcesses)
    .flatMap(([kind, count]) => Array<FaultKind>(count).fill(kind));
}

/** Dialogues with so many turns together. */
function dealtDialogues(turns: number, random: () => number): number[] {
  const dealt: number[] = [];
  for (let left = turns; left > 0; ) {
    const index = Math.floor(random() * dialogues.length);
    const length = dialogues[index]?.prompts.length ?? 1;
    if (length > left) continue;
    dealt.push(index);
    left -= length;
  }
  return dealt;
}

/** Evenly over the span, each somewhere in its own part of it. */
function spread<T>(items: readonly T[], spanMs: number, random: () => number) {
  const partMs = spanMs / items.length;
  return items.map((item, i) => ({ item, atMs: Math.round((i + random()) * partMs) }));
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  return items
    .map((item) => ({ item, place: random() }))
    .sort((a, b) => a.place - b.place)
    .map(({ item }) => item);
}

/** Mulberry32: numbers from 0 to below 1, always the same for a seed. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
