import type { Deployment, Revision } from "../deployment.ts";
import { grouped } from "./amounts.ts";
import { findInstanceType } from "./instances.ts";
import { type Problem, refused, warning } from "./problem.ts";

/** Of the account, for all its APIs together (docs.aws.amazon.com, "Amazon API Gateway quotas"). */
const callbackQuota = 10_000;
/** The relay's widest window while its budget holds (dataplane/relay/call-budget.ts), in frames. */
const fewestFramesPerSecond = 10;

/** What concerns more than one revision. */
export function deploymentProblems(deployment: Deployment): Problem[] {
  return [...capacityProblems(deployment), ...limitProblems(deployment)];
}

function capacityProblems({ capacity, region, models }: Deployment): Problem[] {
  if (capacity.kind === "on-demand") return [];
  const problems: Problem[] = [];
  const { kind, zone } = capacity;
  if (/^[a-z]{2}(-[a-z]+)+-\d[a-z]$/.test(zone) && !zone.startsWith(region)) {
    problems.push(refused("capacity.zone", `${zone} is not in ${region}`));
  }
  const types = new Set(models.flatMap((model) => model.revisions).flatMap(gpuTypes));
  if (types.size > 1) {
    const message = `one reservation holds one instance type, and there are ${[...types].join(", ")}`;
    problems.push(refused("capacity.kind", message));
  }
  if (types.size === 0) {
    problems.push(refused("capacity.kind", "no revision runs on GPUs: make it on-demand"));
  }
  if (kind !== "block") return problems;
  for (const name of types) {
    const regions = findInstanceType(name)?.blockRegions ?? [];
    if (regions.includes(region)) continue;
    const where = regions.length === 0 ? "nowhere" : `in ${regions.join(", ")} only`;
    problems.push(refused("capacity.kind", `capacity blocks of ${name} are sold ${where}`));
  }
  return problems;
}

function gpuTypes({ instanceType }: Revision): string[] {
  return findInstanceType(instanceType)?.gpus === undefined ? [] : [instanceType];
}

function limitProblems({ models, limits, relays }: Deployment): Problem[] {
  const problems: Problem[] = [];
  models.forEach(({ sampling, revisions }, i) => {
    const shortest = Math.min(...revisions.map(({ contextTokens }) => contextTokens));
    if (sampling.maxTokens < shortest) return;
    const message = `${sampling.maxTokens} leave no room for a prompt in a context of ${shortest}`;
    problems.push(refused(`models.${i}.sampling.maxTokens`, message));
  });
  if (limits.callbacksPerSecond > callbackQuota) {
    const message = `the account's quota is ${grouped(callbackQuota)}, unless you have had it raised`;
    problems.push(warning("limits.callbacksPerSecond", message));
  }
  const turns = models
    .flatMap(({ revisions }) => revisions)
    .reduce((sum, { slots, groups }) => sum + slots * groups.max, 0);
  const frames = turns * fewestFramesPerSecond;
  if (!relays.frontDoor && frames > limits.callbacksPerSecond) {
    const message =
      `${grouped(turns)} turns at a time ask for ${grouped(frames)} frames a second, above ` +
      `limits.callbacksPerSecond: frames would wait. The relays' own door has no such limit`;
    problems.push(warning("relays.frontDoor", message));
  }
  return problems;
}
