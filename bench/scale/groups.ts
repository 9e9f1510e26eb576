import type { Revision } from "../../cluster/deployment.ts";
import { findPrice } from "../../cluster/plan/prices.ts";
import { throughputOf, tokenTimeOf } from "../../cluster/plan/speed.ts";
import { busiestGroup, exampleRevision, instanceOf, people } from "./assumptions.ts";

/** A group that could serve the example's model, and what its tokens cost. */
export interface GroupChoice {
  revision: Revision;
  /** Answers at a time. */
  turns: number;
  tokensPerSecond: number;
  /** Of one turn, with all slots busy. */
  interTokenMs: number;
  /** Of one turn alone, at best. */
  floorMs: number;
  /** US dollars for a million tokens of answers, at `busiestGroup` of what it can. */
  perMillionUsd: number;
  groups: number;
}

type Size = Pick<Revision, "instanceType" | "nodes" | "pipelineParallel" | "slots"> & {
  tensorParallel: number;
};

const sizes: readonly Size[] = [
  { instanceType: "p4d.24xlarge", nodes: 1, tensorParallel: 8, pipelineParallel: 1, slots: 64 },
  { instanceType: "p4d.24xlarge", nodes: 2, tensorParallel: 8, pipelineParallel: 2, slots: 64 },
  { instanceType: "p4d.24xlarge", nodes: 2, tensorParallel: 8, pipelineParallel: 2, slots: 256 },
  { instanceType: "p4d.24xlarge", nodes: 2, tensorParallel: 16, pipelineParallel: 1, slots: 64 },
  { instanceType: "p4de.24xlarge", nodes: 1, tensorParallel: 8, pipelineParallel: 1, slots: 128 },
  { instanceType: "p5.48xlarge", nodes: 1, tensorParallel: 8, pipelineParallel: 1, slots: 128 },
  { instanceType: "p5en.48xlarge", nodes: 1, tensorParallel: 8, pipelineParallel: 1, slots: 256 },
  { instanceType: "g6e.12xlarge", nodes: 2, tensorParallel: 4, pipelineParallel: 2, slots: 64 },
];

/** @param turnsPerSecond that all groups together have to get through. */
export function groupChoices(turnsPerSecond: number): GroupChoice[] {
  return sizes.map((size) => {
    const revision = { ...exampleRevision(), ...size };
    const instance = instanceOf(size.instanceType);
    const throughput = throughputOf(revision, instance, people);
    const hourly = findPrice("us-east-1", size.instanceType)?.usd;
    if (throughput === undefined || hourly === undefined) {
      throw new Error(`${size.instanceType} has no GPUs, or no price.`);
    }
    const { turns, tokensPerSecond, interTokenSeconds } = throughput;
    const tokensPerHour = tokensPerSecond * busiestGroup * 3_600;
    return {
      ...{ revision, turns, tokensPerSecond, interTokenMs: interTokenSeconds * 1_000 },
      floorMs: tokenTimeOf(revision, instance).totalSeconds * 1_000,
      perMillionUsd: ((hourly * size.nodes) / tokensPerHour) * 1e6,
      groups: Math.ceil(turnsPerSecond / (throughput.turnsPerSecond * busiestGroup)),
    };
  });
}
