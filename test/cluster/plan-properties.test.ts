import fc from "fast-check";
import { expect, test } from "vitest";
import type { Revision } from "../../cluster/deployment.ts";
import { instanceTypes } from "../../cluster/plan/instances.ts";
import { memoryOf } from "../../cluster/plan/memory.ts";
import { layersOfStages, weightBytesOf } from "../../cluster/plan/model-size.ts";
import { checkDeployment, planDeployment } from "../../cluster/plan/plan.ts";
import { tokenTimeOf } from "../../cluster/plan/speed.ts";
import { suggest } from "../../cluster/plan/suggestions.ts";
import { deploymentOf, llama70b, revisionOf } from "./plan-deployments.ts";

/** What holds for any group, whatever its numbers. */

const gpuInstances = instanceTypes.filter(({ gpus }) => gpus !== undefined);
const groups = fc.record({
  instance: fc.constantFrom(...gpuInstances),
  tensorParallel: fc.constantFrom<number>(1, 2, 4, 8, 16),
  pipelineParallel: fc.integer({ min: 1, max: 16 }),
  contextTokens: fc.integer({ min: 1_024, max: 131_072 }),
  slots: fc.integer({ min: 1, max: 512 }),
});

const revisionFrom = ({
  instance,
  ...size
}: typeof groups extends fc.Arbitrary<infer T> ? T : never) =>
  revisionOf({ ...size, instanceType: instance.name });

test("the memory of a rank is the sum of its parts", () => {
  fc.assert(
    fc.property(groups, (group) => {
      const revision = revisionFrom(group);
      for (const rank of memoryOf(revision, group.instance).ranks) {
        const parts = Object.values(weightBytesOf(revision, rank.stage)).reduce((a, b) => a + b);
        expect(rank.weightBytes).toBeCloseTo(parts, 3);
        const sum = rank.weightBytes + rank.reserveBytes + rank.kvRoomBytes;
        expect(sum).toBeCloseTo(rank.usableBytes, 3);
        expect(rank.usableBytes).toBeLessThan(rank.totalBytes);
      }
    }),
  );
});

test("all ranks together have all weights, and more only of what is replicated", () => {
  fc.assert(
    fc.property(groups, (group) => {
      const revision = revisionFrom(group);
      const { ranks } = memoryOf(revision, group.instance);
      const held = ranks.reduce((sum, rank) => sum + rank.weightBytes, 0) * group.tensorParallel;
      const replicas = Math.max(1, group.tensorParallel / 8);
      const norms = (2 * 80 + 1) * 8_192 * 2 * (group.tensorParallel - 1);
      const keyValue = 80 * 2 * 8_192 * 1_024 * 2 * (replicas - 1);
      expect(held).toBeCloseTo(2 * llama70b.parameters + norms + keyValue, 0);
    }),
  );
});

test("stages have all layers, and differ by one at most", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 200 }),
      fc.integer({ min: 1, max: 16 }),
      (layers, stages) => {
        fc.pre(stages <= layers);
        const own = layersOfStages(layers, stages);
        expect(own.reduce((a, b) => a + b)).toBe(layers);
        expect(Math.max(...own) - Math.min(...own)).toBeLessThanOrEqual(1);
      },
    ),
  );
});

test("a longer context never leaves room for more of them, nor changes what a token takes", () => {
  fc.assert(
    fc.property(groups, fc.integer({ min: 1, max: 131_072 }), (group, more) => {
      const short = memoryOf(revisionFrom(group), group.instance);
      const longer = { ...group, contextTokens: group.contextTokens + more };
      const long = memoryOf(revisionFrom(longer), group.instance);
      expect(long.fullContexts).toBeLessThanOrEqual(short.fullContexts);
      expect(long.kvTokens).toBe(short.kvTokens);
    }),
  );
});

test("with more slots what was refused stays refused, and what was warned of is not praised", () => {
  const rank = (revision: Partial<Revision>) => {
    const { problems } = planDeployment(deploymentOf(revision));
    if (problems.some(({ severity }) => severity === "refused")) return 2;
    return problems.length > 0 ? 1 : 0;
  };
  fc.assert(
    fc.property(groups, fc.integer({ min: 1, max: 512 }), ({ instance, ...size }, more) => {
      const revision = { ...size, instanceType: instance.name };
      expect(rank({ ...revision, slots: size.slots + more })).toBeGreaterThanOrEqual(
        rank(revision),
      );
    }),
  );
});

test("more GPUs to a layer never make the floor higher", () => {
  fc.assert(
    fc.property(groups, (group) => {
      fc.pre(group.tensorParallel < 16);
      const wider = { ...group, tensorParallel: group.tensorParallel * 2 };
      const floor = (of: typeof group) => tokenTimeOf(revisionFrom(of), of.instance).readSeconds;
      expect(floor(wider)).toBeLessThan(floor(group));
    }),
  );
});

test("what is suggested can be deployed, without a warning of its memory", () => {
  fc.assert(
    fc.property(groups, ({ instance, ...size }) => {
      const revision = revisionFrom({ instance, ...size });
      for (const { fullContexts, usdPerMonth, ...other } of suggest(revision, "us-east-1")) {
        expect(fullContexts).toBeGreaterThanOrEqual(size.slots);
        expect(usdPerMonth).toBeGreaterThan(0);
        const { problems } = checkDeployment(deploymentOf({ ...size, ...other }));
        expect(problems.filter(({ field }) => field.endsWith(".slots"))).toEqual([]);
      }
    }),
  );
});
