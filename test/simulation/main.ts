import { parseArgs } from "node:util";
import { runSchedule } from "./schedule.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "0" },
    schedules: { type: "string", default: "10000" },
    trace: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) {
  console.log(`npm run test:simulation -- [options]: turns on virtual time, while parts of Axon crash and messages are lost.

  --seed N        the first schedule (default 0)
  --schedules N   how many of them, one seed after the other (default 10000)
  --trace         tells the first that fails, step by step; with --schedules 1 also one that does not
  -h, --help      this text

What is assumed stands at the head of test/simulation/schedule.ts. Exit codes: 0 all held; 1 some did not.`);
  process.exit();
}
const firstSeed = Number(values.seed);
const schedules = Number(values.schedules);

async function trace(seed: number): Promise<void> {
  await runSchedule(seed, {
    onLine: (atMs, who, what) =>
      console.log(`${(atMs / 1_000).toFixed(4).padStart(10)} s  ${who.padEnd(14)} ${what}`),
  });
}

const startedAt = performance.now();
let failed = 0;
let steps = 0;
let longest = { seed: 0, tookMs: 0 };
for (let seed = firstSeed; seed < firstSeed + schedules; seed++) {
  const outcome = await runSchedule(seed);
  steps += outcome.steps;
  if (outcome.tookMs > longest.tookMs) longest = { seed, tookMs: outcome.tookMs };
  if (outcome.violation === undefined) continue;
  failed++;
  console.log(`seed ${seed}: ${outcome.violation}`);
  if (values.trace && failed === 1) await trace(seed);
}
if (values.trace && schedules === 1 && failed === 0) await trace(firstSeed);
const seconds = (performance.now() - startedAt) / 1_000;
console.log(
  `${schedules} schedules from seed ${firstSeed}: ${failed} failed; ${steps} steps in ${seconds.toFixed(1)} s; ` +
    `the longest (seed ${longest.seed}) took ${Math.round(longest.tookMs / 1_000)} s of virtual time`,
);
if (failed > 0) process.exitCode = 1;
