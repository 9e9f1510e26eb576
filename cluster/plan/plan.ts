import { type Deployment, DeploymentError, type Revision } from "../deployment.ts";
import { type MonthlyCost, monthlyCost } from "./cost.ts";
import { deploymentProblems } from "./deployment-rules.ts";
import { findInstanceType, type InstanceType } from "./instances.ts";
import { type GroupMemory, memoryOf } from "./memory.ts";
import { memoryProblems } from "./memory-rules.ts";
import type { Problem } from "./problem.ts";
import { type Quota, quotasOf } from "./quotas.ts";
import {
  instanceProblems,
  placementProblems,
  shapeProblems,
  splitProblems,
} from "./revision-rules.ts";
import {
  type Throughput,
  type TokenTime,
  type TurnSize,
  throughputOf,
  tokenTimeOf,
} from "./speed.ts";

/**
 * What a deployment will be, before anything of it is: whether each model fits, how fast it can be at
 * best, what it costs. Pure sums over axon.config.ts and the tables of instances and prices. In this
 * order they read as a book: model-size, memory, links, speed, prices, cost, and then the rules.
 */

export interface RevisionPlan {
  model: string;
  revision: string;
  engine: Revision["engine"]["kind"];
  /** Of one group. */
  instanceType: string;
  nodes: number;
  tensorParallel: number;
  pipelineParallel: number;
  groups: { min: number; max: number };
  slots: number;
  contextTokens: number;
  /** Undefined where the instance is not known, or the model cannot be cut like this. */
  memory: GroupMemory | undefined;
  tokenTime: TokenTime | undefined;
  /** Of one group, with all slots busy with turns of `planTurn`. */
  throughput: Throughput | undefined;
}

export interface Plan {
  region: string;
  revisions: RevisionPlan[];
  cost: MonthlyCost;
  quotas: Quota[];
  problems: Problem[];
}

/** The turn that throughput is told for: a question with some history, and an answer of a page. */
export const planTurn: TurnSize = { promptTokens: 1_000, answerTokens: 300 };

export function planDeployment(deployment: Deployment): Plan {
  const { region, models } = deployment;
  const planned = models.flatMap(({ model, revisions }, i) =>
    revisions.map((revision, j) =>
      planRevision(revision, { model, region, path: `models.${i}.revisions.${j}` }),
    ),
  );
  return {
    region,
    revisions: planned.map(({ plan }) => plan),
    cost: monthlyCost(deployment),
    quotas: quotasOf(deployment),
    problems: [...planned.flatMap(({ problems }) => problems), ...deploymentProblems(deployment)],
  };
}

/**
 * Nothing that does not fit is deployed.
 * @returns the plan, whose problems are warnings only.
 * @throws DeploymentError naming all that is wrong, field by field
 */
export function checkDeployment(deployment: Deployment): Plan {
  const plan = planDeployment(deployment);
  const wrong = plan.problems.filter(({ severity }) => severity === "refused");
  if (wrong.length === 0) return plan;
  const lines = wrong.map(({ field, message }) => `  ${field}: ${message}`);
  throw new DeploymentError(`axon.config.ts cannot be deployed:\n${lines.join("\n")}`);
}

function planRevision(
  revision: Revision,
  { model, region, path }: { model: string; region: string; path: string },
): { plan: RevisionPlan; problems: Problem[] } {
  const field = (name: string) => `${path}.${name}`;
  const instance = findInstanceType(revision.instanceType);
  const wrongInstance = instanceProblems(revision, instance, field);
  const wrongShape = shapeProblems(revision, field);
  const problems = [...wrongInstance, ...wrongShape, ...splitProblems(revision, field)];
  const { instanceType, nodes, tensorParallel, pipelineParallel } = revision;
  const { groups, slots, contextTokens } = revision;
  const group = { instanceType, nodes, tensorParallel, pipelineParallel };
  const names = { model, revision: revision.revision, engine: revision.engine.kind };
  const facts = { ...names, ...group, groups, slots, contextTokens };
  const known = wrongInstance.length + wrongShape.length === 0 ? instance : undefined;
  if (known !== undefined) problems.push(...groupProblems(revision, known, region, field));
  return { plan: { ...facts, ...sumsOf(revision, known) }, problems };
}

function groupProblems(
  revision: Revision,
  instance: InstanceType,
  region: string,
  field: (name: string) => string,
): Problem[] {
  return [
    ...placementProblems(revision, instance, field),
    // Stages without a layer have no memory to speak of.
    ...(revision.shape.layers < revision.pipelineParallel
      ? []
      : memoryProblems(revision, instance, region, field)),
  ];
}

function sumsOf(
  revision: Revision,
  instance: InstanceType | undefined,
): Pick<RevisionPlan, "memory" | "tokenTime" | "throughput"> {
  if (instance === undefined || revision.shape.layers < revision.pipelineParallel) {
    return { memory: undefined, tokenTime: undefined, throughput: undefined };
  }
  return {
    memory: memoryOf(revision, instance),
    tokenTime: tokenTimeOf(revision, instance),
    throughput: throughputOf(revision, instance, planTurn),
  };
}
