import type { ObservedData } from "../events/views.ts";
import {
  defineCommand,
  exitCodesHelp,
  noMoreWords,
  operatorHelp,
  operatorOptions,
} from "./command.ts";
import { countText, durationText } from "./figures.ts";
import { jsonLines, see } from "./views.ts";

export const statusCommand = defineCommand({
  help: `axon status: how everything is, on one page.

Options
${operatorHelp}
${exitCodesHelp}`,
  options: operatorOptions,
  async run(words, { stage, json }) {
    noMoreWords("status", words);
    const seen = await see(stage, "overview");
    process.stdout.write(json ? jsonLines([seen]) : overviewText(seen));
    return 0;
  },
});

const line = (name: string, text: string): string => `  ${name.padEnd(14)} ${text}\n`;

function overviewText({
  stage,
  models,
  groups,
  turns,
  deadLetters,
  slo,
}: ObservedData["overview"]) {
  const { running, waiting, oldestWaitMs, lastMinute } = turns;
  const oldest = oldestWaitMs === null ? "" : `, the oldest for ${durationText(oldestWaitMs)}`;
  return [
    `stage ${stage}\n`,
    ...models.map(({ model, weights, rolloutPhase }) => {
      const traffic = weights.map(({ revision, percent }) => `${revision} ${percent} %`).join(", ");
      const phase = rolloutPhase === null ? "" : `; a rollout: ${rolloutPhase}`;
      return line("model", `${model}: ${traffic || "no revision serves by the log"}${phase}`);
    }),
    line("groups", `${groups.ready} ready, ${groups.forming} forming, ${groups.draining} draining`),
    line("turns", `${running} run, ${waiting} wait${oldest}`),
    line("last minute", `${lastMinute.ended} ended, ${lastMinute.failed} of them failed`),
    line("dead letters", countText(deadLetters)),
    line("first token", `p95 ${durationText(slo.firstTokenP95Ms)} in the last five minutes`),
    line("between tokens", `p95 ${durationText(slo.interTokenP95Ms)}`),
    line("errors", slo.errorPercent === null ? "–" : `${countText(slo.errorPercent)} %`),
  ].join("");
}
