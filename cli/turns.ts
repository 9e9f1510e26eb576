import type { SeenTurn } from "../events/views.ts";
import { paintRow } from "./colours.ts";
import {
  defineCommand,
  exitCodesHelp,
  noMoreWords,
  numberOf,
  operatorHelp,
  operatorOptions,
} from "./command.ts";
import { countText, durationText, timeText } from "./figures.ts";
import { textTable } from "./text-table.ts";
import { jsonLines, see } from "./views.ts";

export const turnsCommand = defineCommand({
  help: `axon turns: the turns, those asked for last first.

Options
  --status STATUS  open, completed, cancelled or failed
  --revision NAME, --model NAME, --tenant ID
                   only of these
  --limit N        so many, at most 100 (default 20)
  --before CURSOR  the page after: what --json has as \`next\` in its last line
${operatorHelp}
${exitCodesHelp}`,
  options: {
    ...operatorOptions,
    status: { type: "string" },
    revision: { type: "string" },
    model: { type: "string" },
    tenant: { type: "string" },
    limit: { type: "string" },
    before: { type: "string" },
  },
  async run(words, { stage, json, tenant: tenantId, limit, ...filters }) {
    noMoreWords("turns", words);
    const asked = { ...filters, tenantId, limit: numberOf("limit", limit) ?? 20 };
    const { turns, next } = await see(stage, "turns", asked);
    if (json) process.stdout.write(jsonLines([...turns, { next }]));
    else process.stdout.write(turnsText(turns));
    return 0;
  },
});

/** As the leader has measured it; before the turn has ended, as the log tells. */
function queuedMs({ timings, requestedAt, startedAt }: SeenTurn): number | null {
  if (timings !== null) return timings.queuedMs;
  return startedAt === null ? null : Math.max(0, startedAt - requestedAt);
}

function turnsText(turns: readonly SeenTurn[]): string {
  if (turns.length === 0) return "There are no such turns.\n";
  const header = [
    "turn",
    "tenant",
    "revision",
    "status",
    "asked (UTC)",
    "queued",
    "first token",
    "tokens",
    "group",
  ];
  const rows = turns.map((turn) => [
    turn.turnId,
    turn.tenantId,
    turn.revision,
    turn.errorCode === null ? turn.status : `${turn.status}: ${turn.errorCode}`,
    timeText(turn.requestedAt),
    durationText(queuedMs(turn)),
    durationText(turn.timings?.firstTokenMs ?? null),
    countText(turn.tokens),
    turn.groupId ?? "–",
  ]);
  const isNumber = [false, false, false, false, false, true, true, true, false];
  const [top = "", ...lines] = textTable(header, rows, isNumber);
  return `${[top, ...lines.map((row, i) => paintRow(row, turns[i]?.status ?? ""))].join("\n")}\n`;
}
