import * as z from "zod";
import { defineCommand, exitCodesHelp, given, operatorHelp, operatorOptions } from "./command.ts";
import { durationText, timesText } from "./figures.ts";
import { askOperator } from "./operator.ts";
import { CommandError } from "./stage.ts";
import { jsonLines } from "./views.ts";

const letterSchema = z.object({
  queue: z.string(),
  kind: z.enum(["jobs", "reports"]),
  messageId: z.string(),
  turnId: z.string().nullable(),
  tenantId: z.string().nullable(),
  reason: z.string().nullable(),
  receives: z.number(),
  ageMs: z.number(),
});
type Letter = z.infer<typeof letterSchema>;
const lettersSchema = z.object({ letters: z.array(letterSchema) });
const listedSchema = z.object({ deadLetters: lettersSchema });
const movedSchema = z.object({ redriven: lettersSchema });

export const jobsCommand = defineCommand({
  help: `axon jobs: the messages that could not be worked off.

  axon jobs dlq              lists the dead letters of the jobs and of the reports, and leaves them there
  axon jobs dlq --redrive    moves them back to the queue that they come from

Options
  --queue NAME     only those of one queue: jobs or reports
  --id ID          --redrive: only this one
${operatorHelp}
A job that is no job comes back at once, with the same reason. Everything else may be done twice without
harm: a turn that has ended is not run again, and a report of it changes nothing.

${exitCodesHelp}`,
  words: ["dlq"],
  options: {
    ...operatorOptions,
    queue: { type: "string" },
    id: { type: "string" },
    redrive: { type: "boolean", default: false },
  },
  async run(words, { stage, json, queue, id, redrive }) {
    if (words.length !== 1 || words[0] !== "dlq") {
      throw new CommandError("Use axon jobs dlq. Try axon jobs --help.", { exitCode: 2 });
    }
    if (queue !== undefined && queue !== "jobs" && queue !== "reports") {
      throw new CommandError(`--queue takes jobs or reports, not "${queue}".`, { exitCode: 2 });
    }
    const letters = redrive
      ? movedSchema.parse(await askOperator({ command: "redrive", ...given({ queue, id }) }, stage))
          .redriven.letters
      : listedSchema.parse(
          await askOperator({ command: "dead-letters", ...given({ queue }) }, stage),
        ).deadLetters.letters;
    if (json) process.stdout.write(jsonLines(letters));
    else process.stdout.write(lettersText(letters, redrive));
    return 0;
  },
});

function lettersText(letters: readonly Letter[], isMoved: boolean): string {
  const count = letters.length === 1 ? "1 dead letter" : `${letters.length} dead letters`;
  const lines = letters.map(({ kind, messageId, turnId, tenantId, reason, receives, ageMs }) => {
    const facts = [
      ...[kind, messageId, turnId ?? "no turn"],
      ...(tenantId === null ? [] : [`tenant ${tenantId}`]),
      ...[`received ${timesText(receives)}`, `${durationText(ageMs)} old`],
      reason ?? "received too often",
    ];
    return `  ${facts.join("  ")}\n`;
  });
  return `${count}${isMoved ? " moved back" : ""}\n${lines.join("")}`;
}
