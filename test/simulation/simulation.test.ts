import { expect, test } from "vitest";
import { runSchedule } from "./schedule.ts";
import type { PlantedBugs } from "./world.ts";

/** The first schedules of `npm run test:simulation`, and bugs that they must find. */

test("whatever dies, is late or is lost, each turn ends once and everybody reads its record", async () => {
  for (let seed = 0; seed < 1_500; seed++) {
    const { violation } = await runSchedule(seed);
    expect(
      violation,
      `seed ${seed}: npm run test:simulation -- --seed ${seed} --schedules 1 --trace`,
    ).toBe(undefined);
  }
}, 120_000);

test("a schedule is the same each time", async () => {
  const trace = async () => {
    const lines: string[] = [];
    await runSchedule(9, { onLine: (...line) => void lines.push(line.join(" ")) });
    return lines;
  };
  expect(await trace()).toEqual(await trace());
});

test.each<[keyof PlantedBugs, number]>([
  ["appendIgnoresEpochs", 500],
  ["clientIgnoresEpochs", 2_000],
  ["relayNeverRewinds", 2_000],
])(
  "%s: a planted bug is found within %i schedules",
  async (bug, schedules) => {
    let found: string | undefined;
    for (let seed = 0; found === undefined && seed < schedules; seed++) {
      found = (await runSchedule(seed, { bugs: { [bug]: true } })).violation;
    }
    expect(found).toBeDefined();
  },
  120_000,
);
