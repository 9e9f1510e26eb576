import { parseArgs } from "node:util";
import { faultKinds } from "./plan.ts";
import { type StormReport, storm } from "./storm.ts";

const help = `npm run test:faults -- [options]: the whole stage under load, while its parts die.

  --seed N      the plan of an earlier run again (default: another one each time)
  --turns N     answers that are asked for (default 200)
  --faults N    things that go wrong meanwhile (default 100)
  --minutes M   asks and faults are spread over so long (default: a fault every 2 s)
  --tp N        ranks of each of the two groups (default 2; with 1 no rank is killed alone)

The exit code is 1 if a token was lost, repeated or out of order, a text differs, a turn has no end or
two, or something is left over. docs/FAULTS.md tells more.
`;

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new Error(`--${name} ${text}: use a number above 0.`);
  return value;
}

function summary(report: StormReport): string {
  const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`;
  const faults = faultKinds.flatMap((kind): [string, string][] => {
    const count = report.faults.get(kind) ?? 0;
    return count === 0 ? [] : [[`  ${kind}`, String(count)]];
  });
  const total = [...report.faults.values()].reduce((sum, count) => sum + count, 0);
  const rows: [string, string][] = [
    ["faults", String(total)],
    ...faults,
    ["turns", String(report.turns)],
    ["takeovers", String(report.takeovers)],
    ["rewinds", String(report.rewinds)],
    ["longest wait for a first token", seconds(report.longestFirstTokenMs)],
    ["longest silence in an answer", seconds(report.longestSilenceMs)],
    ["all put away after", seconds(report.settledMs)],
    ["problems", String(report.problems.length)],
  ];
  return rows.map(([name, value]) => `${name.padEnd(32)}${value.padStart(8)}`).join("\n");
}

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    turns: { type: "string", default: "200" },
    faults: { type: "string", default: "100" },
    minutes: { type: "string" },
    tp: { type: "string", default: "2" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  process.stdout.write(help);
} else {
  const seed = positive("seed", values.seed);
  const faults = positive("faults", values.faults);
  const minutes = values.minutes === undefined ? faults / 30 : positive("minutes", values.minutes);
  console.log(`seed ${seed}`);
  const report = await storm({
    ...{ seed, faults, turns: positive("turns", values.turns), spanMs: minutes * 60_000 },
    ...{ ranks: positive("tp", values.tp), note: (line: string) => console.log(line) },
  });
  console.log(`\n${summary(report)}`);
  for (const problem of report.problems) console.log(`! ${problem}`);
  if (report.dataDir !== undefined) console.log(`logs are in ${report.dataDir}/logs`);
  process.exitCode = report.problems.length === 0 ? 0 : 1;
}
