import { setTimeout as sleep } from "node:timers/promises";
import { carryOut } from "./actions.ts";
import { audit } from "./audit.ts";
import { ask, type Heard } from "./listener.ts";
import { type Dialogue, dialogues, type FaultKind, type Plan, planOf } from "./plan.ts";
import { StageUnderFaults } from "./stage-under-faults.ts";

export interface StormOptions {
  seed: number;
  turns: number;
  faults: number;
  spanMs: number;
  /** Ranks of a group; with more than one they are processes, and are killed too. */
  ranks: number;
  /** Hears what is done, as it is done. */
  note: (line: string) => void;
}

export interface StormReport {
  /** Nothing, if all is well. */
  problems: string[];
  turns: number;
  faults: Map<FaultKind, number>;
  takeovers: number;
  rewinds: number;
  longestFirstTokenMs: number;
  longestSilenceMs: number;
  settledMs: number;
  /** Where the stage's data and logs are, if there are problems. */
  dataDir: string | undefined;
}

const clients = 8;
const msPerToken = 25;

/**
 * Runs the whole stage under load while its parts die, stop and forget, and looks afterwards whether
 * anybody could tell: first every dialogue undisturbed, then the same ones in the storm.
 */
export async function storm(options: StormOptions): Promise<StormReport> {
  const { seed, turns, faults, spanMs, ranks, note } = options;
  const plan = planOf({ seed, turns, faults, spanMs, ranksAreProcesses: ranks > 1 });
  const stage = await StageUnderFaults.start({ ranks, msPerToken, clients });
  let problems = ["the run broke off"];
  try {
    const calm = await undisturbed(stage);
    note(`${calm.flat().length} turns were answered undisturbed; the storm begins`);
    const startedAt = performance.now();
    const blowing = blow(stage, plan, (line) => {
      note(`${((performance.now() - startedAt) / 1_000).toFixed(1).padStart(7)} s  ${line}`);
    });
    const [done, heard] = await Promise.all([blowing, askAll(stage, plan, calm, note)]);
    note(`all is said after ${((performance.now() - startedAt) / 1_000).toFixed(1)} s`);
    const result = await audit(stage, [...calm.flat(), ...heard.turns]);
    problems = [...done.problems, ...heard.problems, ...result.problems];
    const longest = (of: (turn: Heard) => number) => Math.max(0, ...heard.turns.map(of));
    return {
      ...{ problems, turns: heard.turns.length, faults: done.faults, takeovers: result.takeovers },
      rewinds: heard.turns.reduce((sum, turn) => sum + turn.rewinds, 0),
      longestFirstTokenMs: longest((turn) => turn.firstTokenMs),
      longestSilenceMs: longest((turn) => turn.silenceMs),
      settledMs: result.settledMs,
      dataDir: problems.length > 0 ? stage.stage.dataDir : undefined,
    };
  } finally {
    // The report has this very list.
    problems.push(...(await stage.stop({ keepData: problems.length > 0 })));
  }
}

async function undisturbed(stage: StageUnderFaults): Promise<Heard[][]> {
  return Promise.all(dialogues.map((dialogue, i) => hold(stage, dialogue, i / dialogues.length)));
}

/** Asks one thing after the other in one conversation. */
async function hold(
  { clients: all }: StageUnderFaults,
  { prompts, sampling }: Dialogue,
  pick: number,
): Promise<Heard[]> {
  const heard: Heard[] = [];
  const chosen = all[Math.floor(pick * all.length)];
  if (chosen === undefined) throw new Error("There is no client.");
  for (const prompt of prompts) {
    const conversationId = heard[0]?.conversationId;
    heard.push(
      await ask(chosen.client, {
        ...{ prompt, sampling },
        ...(conversationId !== undefined && { conversationId }),
      }),
    );
  }
  return heard;
}

async function askAll(
  stage: StageUnderFaults,
  plan: Plan,
  calm: readonly Heard[][],
  note: (line: string) => void,
): Promise<{ turns: Heard[]; problems: string[] }> {
  const problems: string[] = [];
  const turns = await Promise.all(
    plan.asks.map(async ({ atMs, dialogue, pick }) => {
      await sleep(atMs);
      const asked = dialogues[dialogue];
      if (asked === undefined) throw new Error(`There is no dialogue ${dialogue}.`);
      try {
        const heard = await hold(stage, asked, pick);
        problems.push(...differences(heard, calm[dialogue] ?? []));
        for (const turn of heard) noteSilence(turn, note);
        return heard;
      } catch (error) {
        problems.push(`"${asked.prompts.join(" ")}" was not answered: ${error}`);
        note(problems.at(-1) ?? "");
        return [];
      }
    }),
  );
  return { turns: turns.flat(), problems };
}

/** Longer than it takes to notice that a leader is dead, and to take over. */
const remarkableMs = 8_000;

function noteSilence(
  { turnId, silenceMs, silentUntil }: Heard,
  note: (line: string) => void,
): void {
  if (silenceMs < remarkableMs) return;
  const until = new Date(silentUntil).toISOString();
  note(`${turnId} was silent for ${(silenceMs / 1_000).toFixed(1)} s until ${until}`);
}

function differences(heard: readonly Heard[], calm: readonly Heard[]): string[] {
  return heard.flatMap((turn, i) => {
    const problems = turn.problems.map((problem) => `${turn.turnId}: ${problem}`);
    const before = calm[i];
    const isSame = turn.text === before?.text && turn.finishReason === before.finishReason;
    if (!isSame) problems.push(`${turn.turnId} has other words than when nothing happened`);
    return problems;
  });
}

/** Does what the plan says. Faults may overlap, as they do. */
async function blow(
  stage: StageUnderFaults,
  { faults }: Plan,
  note: (line: string) => void,
): Promise<{ faults: Map<FaultKind, number>; problems: string[] }> {
  const problems: string[] = [];
  const done = new Map<FaultKind, number>();
  await Promise.all(
    faults.map(async (fault) => {
      await sleep(fault.atMs);
      try {
        note(`${fault.kind}: ${await carryOut(stage, fault)}`);
        done.set(fault.kind, (done.get(fault.kind) ?? 0) + 1);
      } catch (error) {
        problems.push(`"${fault.kind}" could not be done: ${error}`);
      }
    }),
  );
  return { faults: done, problems };
}
