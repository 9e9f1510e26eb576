import type { SeenQueue } from "../events/views.ts";
import { paint } from "./colours.ts";
import {
  defineCommand,
  exitCodesHelp,
  noMoreWords,
  operatorHelp,
  operatorOptions,
} from "./command.ts";
import { countText, durationText } from "./figures.ts";
import { textTable } from "./text-table.ts";
import { jsonLines, see } from "./views.ts";

export const queuesCommand = defineCommand({
  help: `axon queues: what waits in the queues, by SQS's approximate numbers, and for how long the oldest turn has.

Options
${operatorHelp}
${exitCodesHelp}`,
  options: operatorOptions,
  async run(words, { stage, json }) {
    noMoreWords("queues", words);
    const { queues } = await see(stage, "queues");
    process.stdout.write(json ? jsonLines(queues) : queuesText(queues));
    return 0;
  },
});

function queuesText(queues: readonly SeenQueue[]): string {
  const header = ["queue", "kind", "waiting", "in flight", "oldest turn", "dead letters"];
  const rows = queues.map((queue) => [
    queue.name,
    queue.kind,
    countText(queue.waiting),
    countText(queue.inFlight),
    durationText(queue.oldestJobMs),
    countText(queue.deadLetters),
  ]);
  const [top = "", ...lines] = textTable(header, rows, [false, false, true, true, true, true]);
  const painted = lines.map((row, i) => (queues[i]?.deadLetters ? paint(row, "red") : row));
  return `${[top, ...painted].join("\n")}\n`;
}
