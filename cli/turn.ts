import type { ObservedData, TimelineEntry } from "../events/views.ts";
import { paint, paintRow } from "./colours.ts";
import {
  defineCommand,
  exitCodesHelp,
  noMoreWords,
  operatorHelp,
  operatorOptions,
} from "./command.ts";
import { clockText, durationText, timeText } from "./figures.ts";
import { CommandError } from "./stage.ts";
import { textTable } from "./text-table.ts";
import { jsonLines, see } from "./views.ts";

export const turnCommand = defineCommand({
  help: `axon turn ID: what happened to one turn, who has produced it, and where its time went.

Options
${operatorHelp}
Neither its prompt nor its answer is shown.

${exitCodesHelp}`,
  options: operatorOptions,
  async run([id, ...more], { stage, json }) {
    if (id === undefined) {
      throw new CommandError("Name the turn: axon turn ID. Try axon turns for which there are.", {
        exitCode: 2,
      });
    }
    noMoreWords("turn", more);
    const seen = await see(stage, "turn", { turnId: id.replace(/^turn\//, "") });
    process.stdout.write(json ? jsonLines([seen]) : turnText(seen));
    return 0;
  },
});

const line = (name: string, text: string): string => `  ${name.padEnd(10)} ${text}\n`;

function turnText(turn: ObservedData["turn"]): string {
  const { turnId, status, revision, model, tenantId, conversationId, runs, weights, rolloutId } =
    turn;
  const traffic = weights.map((weight) => `${weight.revision} ${weight.percent} %`).join(", ");
  return [
    `${paintRow(`turn/${turnId}: ${status}`, status)}${turn.errorCode === null ? "" : ` (${turn.errorCode})`}\n`,
    line("asked", `${timeText(turn.requestedAt)} UTC by tenant ${tenantId} in ${conversationId}`),
    line("revision", `${revision} of ${model}`),
    ...runs.map(({ groupId, leaderId, emittedTokens }, i) => {
      const from = i === 0 ? "" : `, from token ${emittedTokens + 1} on`;
      return line(i === 0 ? "group" : "then", `${groupId} (${leaderId})${from}`);
    }),
    ...(runs.length === 0 ? [line("group", "none yet")] : []),
    line("traffic", `then: ${traffic || "the log knew of none"}`),
    ...(rolloutId === null ? [] : [line("rollout", `${rolloutId} was under way`)]),
    "\n",
    timelineText(turn.timeline),
    "\n",
    spentText(turn),
  ].join("");
}

function timelineText(timeline: readonly TimelineEntry[]): string {
  const first = timeline[0]?.at ?? 0;
  const rows = timeline.map(({ at, what, groupId, epoch, tokens }) => [
    clockText(at),
    `+${at - first} ms`,
    what,
    [
      ...(groupId === undefined ? [] : [`by ${groupId}`]),
      ...(epoch === undefined ? [] : [`epoch ${epoch}`]),
      ...(tokens === undefined ? [] : [`${tokens} tokens`]),
    ].join(", "),
  ]);
  const lines = textTable(["when (UTC)", "after", "what", ""], rows, [false, true, false, false]);
  return lines.map((row) => `  ${row}\n`).join("");
}

const barCells = 40;

/** Each part of the time as a bar of its share. */
function spentText({ spent, status, endedAt }: ObservedData["turn"]): string {
  if (spent === null) return "  It waits for a leader. `axon doctor` says whether there is one.\n";
  const parts = [
    ["queued", spent.queuedMs],
    ["first token", spent.firstTokenMs],
    ["generating", spent.generatingMs],
  ] as const;
  const total = parts.reduce((sum, [, ms]) => sum + (ms ?? 0), 0);
  const lines = parts.map(([name, ms]) => {
    const cells = total === 0 ? 0 : Math.round(((ms ?? 0) / total) * barCells);
    return `  ${name.padEnd(12)} ${durationText(ms).padStart(10)}  ${paint("█".repeat(cells), "dim")}`.trimEnd();
  });
  const soFar = endedAt === null && status === "running" ? ["  (so far)"] : [];
  return [...lines, ...soFar].map((text) => `${text}\n`).join("");
}
