import { dollars, gigabytes, grouped, milliseconds } from "../cluster/plan/amounts.ts";
import type { CostSum, MonthlyCost } from "../cluster/plan/cost.ts";
import type { Plan, RevisionPlan } from "../cluster/plan/plan.ts";
import { planTurn } from "../cluster/plan/plan.ts";
import { hoursPerMonth } from "../cluster/plan/prices.ts";
import type { Problem } from "../cluster/plan/problem.ts";
import { textTable } from "./text-table.ts";

/** A plan for people. */
export function planReport(plan: Plan): string {
  const blocks = [
    ...plan.revisions.flatMap((revision) => revisionBlocks(revision, plan)),
    costBlock(plan),
    ...quotaBlock(plan),
    ...problemBlock(plan.problems),
  ];
  return `${blocks.map((lines) => lines.join("\n")).join("\n\n")}\n`;
}

function revisionBlocks(plan: RevisionPlan, { cost }: Plan): string[][] {
  const { model, revision, nodes, instanceType, groups, tensorParallel, pipelineParallel } = plan;
  const head = [
    `${model}, revision ${revision}`,
    `${groups.min} to ${groups.max} groups of ${nodes} × ${instanceType}, tensor parallel ${tensorParallel} × ` +
      `pipeline parallel ${pipelineParallel}, ${plan.slots} slots of ${grouped(plan.contextTokens)} tokens`,
  ];
  return [head, ...memoryBlock(plan), ...timeBlock(plan), ...throughputBlock(plan, cost)];
}

function memoryBlock({ memory, slots, contextTokens }: RevisionPlan): string[][] {
  if (memory === undefined) return [];
  const header = [
    "stage",
    "layers",
    "weights",
    "reserve",
    "KV cache",
    "usable",
    "of",
    "KV a token",
  ];
  const rows = memory.ranks.map((rank) => [
    ...[String(rank.stage), String(rank.layers), gigabytes(rank.weightBytes)],
    ...[gigabytes(rank.reserveBytes), gigabytes(rank.kvRoomBytes)],
    ...[gigabytes(rank.usableBytes), gigabytes(rank.totalBytes), kibibytes(rank.kvBytesPerToken)],
  ]);
  const { kvTokens, fullContexts, kvBytesPerToken } = memory;
  return [
    [
      "Memory of a rank",
      ...textTable(
        header,
        rows,
        header.map(() => true),
      ),
    ],
    [
      `A token takes ${kibibytes(kvBytesPerToken)} of the group's cache; ${grouped(kvTokens)} tokens have room: ` +
        `${fullContexts} full contexts.`,
      `All slots at full context take ${grouped(slots * contextTokens)}.`,
    ],
  ];
}

function timeBlock({ tokenTime, engine }: RevisionPlan): string[][] {
  if (tokenTime === undefined) return [];
  const { allReduces, messageBytes, link, hops, hopLink } = tokenTime;
  const rows = [
    ["weights read once", "", milliseconds(tokenTime.readSeconds)],
    ...(link === undefined
      ? []
      : [
          [
            `${allReduces} all-reduces of ${kibibytes(messageBytes)}`,
            `over ${link}`,
            milliseconds(tokenTime.allReduceSeconds),
          ],
        ]),
    ...(hopLink === undefined
      ? []
      : [[`${hops} to the next stage`, `over ${hopLink}`, milliseconds(tokenTime.hopSeconds)]]),
    ["a token, at best", "", milliseconds(tokenTime.totalSeconds)],
  ];
  const elsewhere =
    link === undefined || engine === "embedded"
      ? []
      : [
          `The same all-reduces: ${milliseconds(tokenTime.onNvlinkSeconds)} over NVLink, ` +
            `up to ${milliseconds(tokenTime.onEfaSeconds)} over EFA.`,
        ];
  const table = textTable(["", "", "time"], rows, [false, false, true]);
  return [["Time of a token, for one turn alone", ...table, ...elsewhere]];
}

function throughputBlock(plan: RevisionPlan, cost: MonthlyCost): string[][] {
  const { throughput, revision, nodes } = plan;
  if (throughput === undefined || throughput.turns === 0) return [];
  const { turns, tokensPerSecond, interTokenSeconds } = throughput;
  const node = cost.lines.find(({ what }) => what.includes(` of ${revision}`));
  const perMillion =
    node?.usdEach === undefined
      ? "unknown"
      : `$${(((node.usdEach * nodes) / (hoursPerMonth * 3_600 * tokensPerSecond)) * 1e6).toFixed(2)}`;
  return [
    [
      `With ${turns} turns at a time (${grouped(planTurn.promptTokens)} tokens of prompt, ` +
        `${planTurn.answerTokens} of answer) a group is taken to say ${grouped(tokensPerSecond)} tokens/s, one ` +
        `each ${milliseconds(interTokenSeconds)} a turn;`,
      `a million of them then cost ${perMillion} of its nodes.`,
    ],
  ];
}

function costBlock({ cost, region }: Plan): string[] {
  const header = ["Monthly cost", "each", "idle", "full", "idle, USD", "full, USD"];
  const times = (each: number | undefined, count: number) =>
    count === 0 ? "$0" : dollars(each === undefined ? undefined : each * count);
  const rows = cost.lines.map(({ what, usdEach, idleCount, fullCount }) => [
    ...[what, usdEach === undefined ? "unknown" : `$${usdEach.toFixed(2)}`],
    ...[String(idleCount), String(fullCount)],
    ...[times(usdEach, idleCount), times(usdEach, fullCount)],
  ]);
  rows.push(["sum", "", "", "", sumText(cost.idle), sumText(cost.full)]);
  const dates = cost.lines.flatMap(({ price }) => (price === undefined ? [] : [price.asOf])).sort();
  const origin =
    dates.length === 0
      ? `No price of ${region} is in the table (cluster/plan/prices.ts).`
      : `In ${region}, without tax, traffic and what is paid by use. The oldest of these prices is of ` +
        `${dates[0]}; --json tells the date and the source of each.`;
  return [...textTable(header, rows, [false, true, true, true, true, true]), origin];
}

function sumText({ usd, unknown }: CostSum): string {
  return unknown.length === 0 ? dollars(usd) : "unknown";
}

function quotaBlock({ quotas }: Plan): string[][] {
  if (quotas.length === 0) return [];
  const lines = quotas.map(
    ({ name, code, vcpus }) => `  ${name} (${code}): ${grouped(vcpus)} vCPUs`,
  );
  return [["Quotas of the account that all groups need", ...lines]];
}

function problemBlock(problems: readonly Problem[]): string[][] {
  const of = (severity: Problem["severity"]) =>
    problems
      .filter((problem) => problem.severity === severity)
      .map(({ field, message }) => `  ${field}: ${message}`);
  const [refusals, warnings] = [of("refused"), of("warning")];
  return [
    ...(warnings.length === 0 ? [] : [["Warnings", ...warnings]]),
    ...(refusals.length === 0 ? [["It can be deployed."]] : [["Refused", ...refusals]]),
  ];
}

function kibibytes(bytes: number): string {
  return `${Number((bytes / 1_024).toFixed(1))} KiB`;
}
