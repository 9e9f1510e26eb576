/** What the engine's loop tells the main thread without being asked: numbers in shared memory. */
const names = [
  "steps",
  "stepSeconds",
  "runningTurns",
  "pages",
  "usedPages",
  "reusedTokens",
  "preemptions",
] as const;

export type EngineCounts = Record<(typeof names)[number], number>;

export class EngineCounters {
  readonly memory: SharedArrayBuffer;
  readonly #values: Float64Array;

  constructor(memory = new SharedArrayBuffer(names.length * 8)) {
    this.memory = memory;
    this.#values = new Float64Array(memory);
  }

  write(counts: EngineCounts): void {
    for (const [index, name] of names.entries()) this.#values[index] = counts[name];
  }

  read(): EngineCounts {
    const entries = names.map((name, index) => [name, this.#values[index] ?? 0]);
    return Object.fromEntries(entries) as EngineCounts;
  }
}
