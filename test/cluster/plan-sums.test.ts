import { describe, expect, test } from "vitest";
import type { Deployment, Revision } from "../../cluster/deployment.ts";
import { monthlyCost } from "../../cluster/plan/cost.ts";
import { findInstanceType, type InstanceType } from "../../cluster/plan/instances.ts";
import { memoryOf } from "../../cluster/plan/memory.ts";
import {
  countParameters,
  intermediateSize,
  keyValueHeadsOfRank,
  layersOfStages,
  weightBytesOf,
} from "../../cluster/plan/model-size.ts";
import { findPrice } from "../../cluster/plan/prices.ts";
import { throughputOf, tokenTimeOf } from "../../cluster/plan/speed.ts";
import { deploymentOf, llama1b, llama70b, onCpus, revisionOf } from "./plan-deployments.ts";

/** The sums of a plan beside what one finds with a pencil. */

const GiB = 2 ** 30;
const instanceOf = ({ instanceType }: Revision) => findInstanceType(instanceType) as InstanceType;
const weightsOf = (revision: Revision, stage = 0) => {
  const { embedding, layers, norms, outputHead } = weightBytesOf(revision, stage);
  return embedding + layers + norms + outputHead;
};
const memory = (revision: Revision) => memoryOf(revision, instanceOf(revision));
const time = (revision: Revision) => tokenTimeOf(revision, instanceOf(revision));

describe("Llama-3-70B in bf16", () => {
  test("is 141 GB, of which the MLP of each layer has three matrices of 8,192 × 28,672", () => {
    expect(intermediateSize(llama70b)).toBe(28_672);
    expect(countParameters(llama70b)).toEqual({
      ...{ embedding: 128_256 * 8_192, query: 8_192 * 8_192, output: 8_192 * 8_192 },
      ...{ keyValue: 2 * 8_192 * 1_024, mlp: 3 * 8_192 * 28_672, norms: 16_384 },
    });
    const alone = revisionOf({ tensorParallel: 1, pipelineParallel: 8 });
    const stages = Array.from({ length: 8 }, (_, stage) => weightsOf(alone, stage));
    expect(stages.reduce((a, b) => a + b)).toBe(2 * 70_553_706_496);
  });

  test("at TP 8 each GPU has an eighth, and all norms", () => {
    const norms = (2 * 80 + 1) * 8_192 * 2;
    expect(weightBytesOf(revisionOf(), 0).norms).toBe(norms);
    expect(weightsOf(revisionOf())).toBe((2 * 70_553_706_496 - norms) / 8 + norms);
    expect(weightsOf(revisionOf()) / 1e9).toBeCloseTo(17.64, 2);
  });

  test("a token takes 320 KiB of keys and values, 40 KiB on each of 8 GPUs", () => {
    const { kvBytesPerToken, ranks } = memory(revisionOf());
    expect(kvBytesPerToken).toBe(320 * 1_024);
    expect(ranks.map((rank) => rank.kvBytesPerToken)).toEqual([40 * 1_024]);
  });

  test("on one p4d there is room for 57 full contexts", () => {
    const [rank] = memory(revisionOf()).ranks;
    expect(rank?.usableBytes).toBe(Math.floor(40 * GiB * 0.92));
    expect(rank?.reserveBytes).toBe(2.5 * GiB);
    // 36.8 GiB − 16.43 GiB − 2.5 GiB = 17.87 GiB, at 40 KiB a token.
    const { kvTokens, fullContexts } = memory(revisionOf());
    expect(kvTokens).toBe(468_464);
    expect(fullContexts).toBe(Math.floor(468_464 / 8_192));
  });

  test("at TP 16 a head of keys and values is on two GPUs: the cache of a token doubles", () => {
    const wide = revisionOf({ nodes: 2, tensorParallel: 16 });
    expect(keyValueHeadsOfRank(llama70b, 16)).toBe(1);
    expect(memory(wide).kvBytesPerToken).toBe(640 * 1_024);
    // Half of what a GPU has at TP 8, and the second copy of its key and value matrices.
    const keyValue = 80 * 2 * 8_192 * 128 * 2;
    const norms = 161 * 8_192 * 2;
    const half = (weightsOf(revisionOf()) - norms) / 2 + norms;
    expect(weightsOf(wide)).toBe(half + keyValue / 2);
  });

  test("floor at batch 1: 69.5 billion weights over eight times 1,555 GB/s, 11.2 ms", () => {
    // One row of the input embedding is read, not all of it.
    const read = (2 * (70_553_706_496 - 128_256 * 8_192)) / 8 / 1.555e12;
    expect(time(revisionOf()).readSeconds).toBeCloseTo(read, 5);
    expect(time(revisionOf()).readSeconds).toBeCloseTo(0.0112, 4);
    // The stages of a pipeline read one after the other: it is no faster for one turn alone.
    const piped = revisionOf({ nodes: 2, pipelineParallel: 2 });
    expect(time(piped).readSeconds).toBeCloseTo(read, 5);
  });

  test("two all-reduces a layer and one for the embedding, of one hidden state", () => {
    const { allReduces, messageBytes, link, allReduceSeconds, onEfaSeconds } = time(revisionOf());
    expect([allReduces, messageBytes, link]).toEqual([161, 16_384, "NVLink"]);
    expect(allReduceSeconds).toBeCloseTo(161 * 12e-6, 9);
    expect(onEfaSeconds).toBeCloseTo(0.0427, 4);
    const wide = time(revisionOf({ nodes: 2, tensorParallel: 16 }));
    expect(wide).toMatchObject({ link: "EFA", allReduceSeconds: wide.onEfaSeconds, hops: 0 });
  });

  test("a pipeline over two nodes has one hop over EFA, no longer than half an all-reduce", () => {
    const piped = time(revisionOf({ nodes: 2, pipelineParallel: 2 }));
    expect(piped).toMatchObject({ link: "NVLink", hops: 1, hopLink: "EFA" });
    expect(piped.hopSeconds).toBeGreaterThan(132e-6);
    expect(piped.hopSeconds).toBeLessThan(134e-6);
    const { readSeconds, allReduceSeconds, hopSeconds, totalSeconds } = piped;
    expect(totalSeconds).toBeCloseTo(readSeconds + allReduceSeconds + hopSeconds, 12);
  });
});

describe("other formats and models", () => {
  test("int4 keeps embeddings in 16 bits and has scales", () => {
    const { embedding, layers } = weightBytesOf(
      revisionOf({ shape: { ...llama70b, dtype: "int4" } }),
      0,
    );
    expect(embedding).toBe((128_256 / 8) * 8_192 * 2);
    const perLayer = 2 * 8_192 ** 2 + 2 * 8_192 * 1_024 + 3 * 8_192 * 28_672;
    expect(layers).toBeCloseTo((80 * perLayer * (0.5 + 2.5 / 128)) / 8, 0);
  });

  test("--kv-cache-dtype fp8 halves the cache of a token", () => {
    const engine = (options: string[]) => ({ kind: "vllm", image: "v", options }) as const;
    const of = (options: string[]) =>
      memory(revisionOf({ engine: engine(options) })).kvBytesPerToken;
    expect(of(["--kv-cache-dtype=fp8"])).toBe(160 * 1_024);
    expect(of(["--kv-cache-dtype", "fp8_e4m3"])).toBe(160 * 1_024);
    expect(of(["--kv-cache-dtype", "auto"])).toBe(320 * 1_024);
  });

  test("an embedding that is the output head counts once, on one stage", () => {
    const one = revisionOf({ shape: llama1b, instanceType: "g5.xlarge", tensorParallel: 1 });
    expect(weightsOf(one)).toBe(2 * llama1b.parameters);
    const matrix = 128_256 * 2_048 * 2;
    const [first, last] = [0, 1].map((stage) =>
      weightBytesOf({ ...one, pipelineParallel: 2 }, stage),
    );
    expect([first?.embedding, first?.outputHead]).toEqual([matrix, 0]);
    expect([last?.embedding, last?.outputHead]).toEqual([0, matrix]);
    // It is read once a token, as the head.
    expect(time(one).readSeconds).toBeCloseTo((2 * llama1b.parameters) / 600e9, 12);
  });

  test.each([
    [80, 2, [40, 40]],
    [80, 3, [27, 27, 26]],
    [81, 4, [20, 20, 21, 20]],
    [4, 4, [1, 1, 1, 1]],
  ])("%i layers on %i stages: %j, as vLLM cuts them", (layers, stages, expected) => {
    expect(layersOfStages(layers, stages)).toEqual(expected);
  });

  test("the embedded engine: int8 with scales, keys and values in f32, 4 GiB a rank at most", () => {
    const revision = revisionOf(onCpus);
    const norms = 33 * 2_048 * 4;
    const matrices = llama1b.parameters - 33 * 2_048;
    expect(weightsOf(revision)).toBeCloseTo((matrices * 17) / 16 / 8 + norms, 0);
    const { ranks, kvBytesPerToken } = memory(revision);
    expect(kvBytesPerToken).toBe(2 * 16 * 8 * 64 * 4);
    // 32 GiB for eight ranks: 4 GiB each, less the tenth that the system keeps.
    expect(ranks[0]?.usableBytes).toBe(Math.floor(4 * GiB * 0.9));
    expect(time(revision)).toMatchObject({ link: "shared memory", allReduces: 33 });
    expect(memory(revisionOf({ ...onCpus, tensorParallel: 4 })).ranks[0]?.usableBytes).toBe(
      4 * GiB,
    );
  });

  test("a query head that two ranks' groups share is counted on both", () => {
    // Nine heads in three groups on two ranks: 5 + 4 heads, of groups 0, 1 and 1, 2.
    const smol = { ...llama1b, attentionHeads: 9, keyValueHeads: 3 };
    expect(keyValueHeadsOfRank(smol, 2)).toBe(2);
    expect(keyValueHeadsOfRank(smol, 3)).toBe(1);
  });
});

describe("throughput", () => {
  const turn = { promptTokens: 1_000, answerTokens: 300 };
  test("is what the slots get through, prefill included", () => {
    const revision = revisionOf();
    const { turns, turnsPerSecond, tokensPerSecond, interTokenSeconds } = throughputOf(
      revision,
      instanceOf(revision),
      turn,
    ) as NonNullable<ReturnType<typeof throughputOf>>;
    // Weights 17.4 GB and 32 × 1,150 × 40 KiB of cache at half of 1,555 GB/s, and 160 all-reduces.
    const bytes = (2 * (70_553_706_496 - 128_256 * 8_192)) / 8 + 32 * 1_150 * 40_960;
    const step = bytes / (0.5 * 1.555e12) + 160 * (12e-6 + (31 * 16_384 * 2) / 300e9);
    const prefill = (2 * 70_553_706_496 * 1_000) / (8 * 312e12 * 0.4);
    expect(turns).toBe(32);
    expect(turnsPerSecond).toBeCloseTo(1 / (prefill + (300 * step) / 32), 2);
    expect(tokensPerSecond).toBeCloseTo(300 * turnsPerSecond, 6);
    // Little's law.
    expect(interTokenSeconds).toBeCloseTo(32 / tokensPerSecond, 9);
  });

  test("turns that have no room do not run", () => {
    const revision = revisionOf({ slots: 1_000 });
    expect(throughputOf(revision, instanceOf(revision), turn)?.turns).toBe(
      Math.floor(468_464 / 1_300),
    );
  });

  test("is not told where nothing is known of the arithmetic", () => {
    const revision = revisionOf(onCpus);
    expect(throughputOf(revision, instanceOf(revision), turn)).toBeUndefined();
  });
});

describe("cost", () => {
  const lineOf = (deployment: Deployment, what: string) =>
    monthlyCost(deployment).lines.find((line) => line.what.startsWith(what));

  test("nodes of all groups, 730 hours", () => {
    const deployment = deploymentOf({ nodes: 2, pipelineParallel: 2, groups: { min: 1, max: 3 } });
    const line = lineOf(deployment, "p4d.24xlarge of one");
    expect(line).toMatchObject({ idleCount: 2, fullCount: 6 });
    expect(line?.usdEach).toBeCloseTo(21.957642 * 730, 6);
    const { lines, idle, full } = monthlyCost(deployment);
    const sum = lines.reduce((total, { usdEach = 0, idleCount }) => total + usdEach * idleCount, 0);
    expect(idle.usd).toBeCloseTo(sum, 6);
    expect(full.usd - idle.usd).toBeCloseTo(4 * 21.957642 * 730, 6);
    expect([idle.unknown, full.unknown]).toEqual([[], []]);
  });

  test("what is reserved costs the same whether it is used or not; a block has its own price", () => {
    const of = (kind: "reservation" | "block") =>
      lineOf(deploymentOf({}, { capacity: { kind, id: "cr-0a", zone: "us-east-1a" } }), "p4d");
    expect(of("reservation")).toMatchObject({ idleCount: 2, fullCount: 2 });
    expect(of("block")?.usdEach).toBeCloseTo(11.8 * 730, 6);
  });

  test("a price that is not in the table is unknown, and so is the sum", () => {
    const { lines, idle } = monthlyCost(deploymentOf({}, { region: "eu-west-1" }));
    expect(lines.every(({ usdEach }) => usdEach === undefined)).toBe(true);
    expect(idle).toMatchObject({ usd: 0 });
    expect(idle.unknown).toContain("p4d.24xlarge of one");
    expect(findPrice("eu-west-1", "p4d.24xlarge")).toBeUndefined();
    expect(findPrice("us-east-1", "p9.large")).toBeUndefined();
  });

  test("each price says of what, when and whence", () => {
    expect(findPrice("us-east-1", "p4d.24xlarge")).toEqual({
      ...{ usd: 21.957642, per: "hour", asOf: "2026-07-20" },
      source: expect.stringContaining("AWS Price List"),
    });
  });
});
