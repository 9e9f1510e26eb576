import * as z from "zod";
import type { SeenGroup } from "../events/views.ts";
import { paintRow } from "./colours.ts";
import {
  defineCommand,
  exitCodesHelp,
  given,
  noMoreWords,
  operatorHelp,
  operatorOptions,
} from "./command.ts";
import { countText, durationText, percentText } from "./figures.ts";
import { askOperator, operatorName } from "./operator.ts";
import { CommandError } from "./stage.ts";
import { textTable } from "./text-table.ts";
import { jsonLines, see } from "./views.ts";

const rotatedSchema = z.object({
  rotation: z.object({
    groupId: z.string(),
    epoch: z.number(),
    revision: z.string(),
    state: z.string(),
  }),
});

const said: Record<string, string> = {
  asked: "is told to end its turns; it is started again by itself",
  "under way": "is being started again already",
  done: "was started again since",
};

export const groupsCommand = defineCommand({
  help: `axon groups: every group, whether it lives, and how busy it is.

  axon groups              all of them
  axon groups rotate ID    its leader ends the turns that it has, and is started again; refused where no other
                           group would take the turns of its revision

Options
  --reason TEXT    rotate: why, for the log
${operatorHelp}
${exitCodesHelp}`,
  words: ["rotate"],
  options: { ...operatorOptions, reason: { type: "string" } },
  async run([word, groupId, ...more], { stage, json, reason }) {
    if (word === undefined) {
      const { groups } = await see(stage, "groups");
      process.stdout.write(json ? jsonLines(groups) : groupsText(groups));
      return 0;
    }
    if (word !== "rotate" || groupId === undefined) {
      throw new CommandError("Use axon groups, or axon groups rotate ID. Try axon groups --help.", {
        exitCode: 2,
      });
    }
    noMoreWords("groups", more);
    const question = {
      command: "rotate",
      groupId,
      by: operatorName(),
      ...given({ reason }),
    } as const;
    const { rotation } = rotatedSchema.parse(await askOperator(question, stage));
    const text = `${rotation.groupId} ${said[rotation.state] ?? rotation.state}.\n`;
    process.stdout.write(json ? jsonLines([rotation]) : text);
    return 0;
  },
});

function groupsText(groups: readonly SeenGroup[]): string {
  if (groups.length === 0) return "There is no group.\n";
  const header = ["group", "revision", "status", "ranks", "busy", "KV", "tokens/s", "beat", "lost"];
  const rows = groups.map((group) => [
    group.groupId,
    group.revision,
    group.status === "ready" && !group.isAccepting ? "ready, takes none" : group.status,
    countText(group.ranks),
    `${group.running}/${group.slots}`,
    percentText(group.kvUse),
    countText(group.tokensPerSecond),
    group.beatAgeMs === null ? "–" : `${durationText(group.beatAgeMs)} ago`,
    countText(group.losses),
  ]);
  const isNumber = [false, false, false, true, true, true, true, true, true];
  const [top = "", ...lines] = textTable(header, rows, isNumber);
  return `${[top, ...lines.map((row, i) => paintRow(row, groups[i]?.status ?? ""))].join("\n")}\n`;
}
