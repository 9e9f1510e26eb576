import { describe, expect, test } from "vitest";
import axonConfig from "../../axon.config.ts";
import { DeploymentError, type DeploymentInput } from "../../cluster/deployment.ts";
import { checkDeployment, planDeployment } from "../../cluster/plan/plan.ts";
import { deploymentOf, llama70b, onCpus } from "./plan-deployments.ts";

/** What is refused before anything is deployed, and in which words. */

type Change = NonNullable<Parameters<typeof deploymentOf>[0]>;

const first = "models.0.revisions.0";
const problemsOf = (change: Change, rest?: Partial<DeploymentInput>) =>
  planDeployment(deploymentOf(change, rest)).problems;

function refusal(change: Change): string {
  try {
    checkDeployment(deploymentOf(change));
  } catch (error) {
    if (error instanceof DeploymentError) return error.message;
    throw error;
  }
  return "";
}

test("the example of the repository can be deployed, and nothing about it is doubtful", () => {
  expect(checkDeployment(axonConfig).problems).toEqual([]);
});

test("70B in bf16 on one A100 of 40 GB: the sum, and what would do", () => {
  expect(refusal({ tensorParallel: 1 })).toBe(`axon.config.ts cannot be deployed:
  ${first}.tensorParallel: tensorParallel × pipelineParallel = 1 × 1 = 1, but 1 × p4d.24xlarge have 8 GPUs
  ${first}.instanceType: 70,553,706,496 parameters in bfloat16 do not fit one A100 40 GB of p4d.24xlarge:
    weights on the fullest rank        141.1 GB
    reserve (CUDA, NCCL, activations)    2.7 GB
    KV cache of 8,192 tokens             2.7 GB
    needed                             146.5 GB
    usable, 92 % of 42.9 GB             39.5 GB
    what would fit:
    - 4 × g6.12xlarge, tensorParallel 4, pipelineParallel 4: 61 full contexts, $13,437 a month
    - 2 × g6e.12xlarge, tensorParallel 4, pipelineParallel 2: 71 full contexts, $15,319 a month
    - 1 × p4d.24xlarge, tensorParallel 8, pipelineParallel 1: 57 full contexts, $16,029 a month`);
});

test("a context that alone has no room is refused, with the one that has", () => {
  expect(refusal({ contextTokens: 1_048_576 })).toContain(
    "- a context of 468,464 tokens would fit as it is",
  );
});

test("slots beyond what fits at full context are a warning: turns that have no room wait", () => {
  expect(problemsOf({ slots: 57 })).toEqual([]);
  expect(problemsOf({ slots: 64 })).toEqual([
    {
      ...{ severity: "warning", field: `${first}.slots` },
      message: expect.stringMatching(
        /64 turns of 8,192 tokens need room for 524,288, there is room for 468,464: 57 full contexts/,
      ),
    },
  ]);
});

const heads = (attentionHeads: number, keyValueHeads: number) => ({
  shape: { ...llama70b, attentionHeads, keyValueHeads },
});

describe("refused", () => {
  test.each<[string, Change, string]>([
    ["instanceType", { instanceType: "p9.large" }, "p9.large is not in the table: p4d.24xlarge, "],
    ["instanceType", { instanceType: "c7a.4xlarge" }, "c7a.4xlarge has no GPU, which vLLM needs"],
    [
      "instanceType",
      { engine: { kind: "embedded" } },
      "p4d.24xlarge has GPUs, which the embedded engine",
    ],
    ["tensorParallel", { nodes: 2 }, "= 8 × 1 = 8, but 2 × p4d.24xlarge have 16 GPUs"],
    ["tensorParallel", heads(60, 4), "60 attention heads cannot be split evenly over 8 GPUs"],
    [
      "tensorParallel",
      heads(48, 6),
      "6 heads of keys and values can neither be split over 8 GPUs nor",
    ],
    [
      "tensorParallel",
      { shape: { ...llama70b, parameters: llama70b.parameters + 80 * 3 * 8_192 } },
      "28673 columns of the MLP cannot be split evenly over 8 GPUs",
    ],
    ["shape.keyValueHeads", heads(64, 7), "7 does not divide the 64 attention heads"],
    [
      "shape.parameters",
      { shape: { ...llama70b, parameters: 2_000_000_000 } },
      "2,000,000,000 are fewer than embeddings and attention have by themselves",
    ],
    [
      "pipelineParallel",
      { shape: { ...llama70b, layers: 3 }, nodes: 4, pipelineParallel: 4 },
      "3 layers are fewer than 4 stages",
    ],
    [
      "tensorParallel",
      { instanceType: "g5.xlarge", nodes: 8 },
      "161 all-reduces a token go between nodes, and g5.xlarge has no EFA",
    ],
    ["pipelineParallel", { ...onCpus, pipelineParallel: 2 }, "the embedded engine has no pipeline"],
    ["tensorParallel", { ...onCpus, nodes: 3 }, "8 ranks cannot be dealt out evenly to 3 nodes"],
    [
      "tensorParallel",
      { ...onCpus, tensorParallel: 16 },
      "it has 16 cores, one of them for the event loop",
    ],
    [
      "tensorParallel",
      { ...onCpus, nodes: 4, tensorParallel: 40 },
      "40 ranks are more than 32 heads",
    ],
    ["slots", { ...onCpus, slots: 300 }, "the embedded engine runs 256 turns at most"],
  ])("%s: %j", (field, change, message) => {
    expect(problemsOf(change)).toContainEqual({
      ...{ severity: "refused", field: `${first}.${field}` },
      message: expect.stringContaining(message),
    });
    expect(() => checkDeployment(deploymentOf(change))).toThrow(DeploymentError);
  });

  test("a rank of the embedded engine that needs more than 4 GiB, without a CUDA in its words", () => {
    const message = refusal({ ...onCpus, shape: llama70b, instanceType: "c7a.48xlarge" });
    expect(message).toContain("in int8 do not fit a rank of the embedded engine");
    expect(message).toContain("usable of 51.5 GB                    4.3 GB");
    expect(message).not.toContain("CUDA");
  });

  test("everything at once", () => {
    const message = refusal({ ...heads(60, 7), nodes: 3, instanceType: "g5.xlarge" });
    const fields = [...message.matchAll(/^ {2}(\S+): /gm)].map((match) => match[1]);
    expect(fields).toEqual(
      ["shape.keyValueHeads", "tensorParallel", "tensorParallel"].map((name) => `${first}.${name}`),
    );
  });
});

describe("doubtful, yet deployed", () => {
  test.each<[string, Change, string]>([
    [
      `${first}.tensorParallel`,
      { nodes: 2, tensorParallel: 16 },
      "161 all-reduces a token go between nodes, up to 42.7 ms over EFA: 8 keeps them within a node",
    ],
    [
      `${first}.instanceType`,
      { instanceType: "g6e.xlarge", nodes: 8, tensorParallel: 1, pipelineParallel: 8, slots: 8 },
      "g6e.xlarge has no EFA: the stages of the pipeline talk over TCP",
    ],
  ])("%s: %j", (field, change, message) => {
    expect(checkDeployment(deploymentOf(change)).problems).toEqual([
      { severity: "warning", field, message: expect.stringContaining(message) },
    ]);
  });

  test("more callbacks than the account's quota, and more turns than callbacks", () => {
    const limits = { callbacksPerSecond: 12_000 };
    const change = { slots: 57, groups: { min: 1, max: 64 } };
    expect(problemsOf(change, { limits }).map(({ field }) => field)).toEqual([
      "limits.callbacksPerSecond",
      "relays.frontDoor",
    ]);
    const behindDoor = { relays: { frontDoor: true, count: 4 } };
    expect(problemsOf(change, behindDoor)).toEqual([]);
  });
});

describe("capacity", () => {
  const block = (zone: string) => ({ capacity: { kind: "block", id: "cr-0a", zone } }) as const;

  test("a block where it is sold", () => {
    expect(problemsOf({}, block("us-east-1b"))).toEqual([]);
    expect(problemsOf({}, block("use1-az6"))).toEqual([]);
  });

  test("a block where it is not, in another region's zone", () => {
    const problems = problemsOf({}, { ...block("us-east-1b"), region: "eu-west-1" });
    expect(problems.map(({ field, message }) => `${field}: ${message}`)).toEqual([
      "capacity.zone: us-east-1b is not in eu-west-1",
      "capacity.kind: capacity blocks of p4d.24xlarge are sold in us-east-1, us-east-2, us-west-2 only",
    ]);
  });

  test("of GPUs that have none, and of none at all", () => {
    const g6e = { instanceType: "g6e.48xlarge" };
    expect(problemsOf(g6e, block("us-east-1b"))).toContainEqual(
      expect.objectContaining({ message: "capacity blocks of g6e.48xlarge are sold nowhere" }),
    );
    expect(problemsOf(onCpus, block("us-east-1b"))).toContainEqual(
      expect.objectContaining({ message: "no revision runs on GPUs: make it on-demand" }),
    );
  });

  test("one reservation for two kinds of nodes", () => {
    const deployment = deploymentOf({}, block("us-east-1b"));
    const [model] = deployment.models;
    const [revision] = model?.revisions ?? [];
    if (model === undefined || revision === undefined) throw new Error("There is one.");
    const other = { ...revision, revision: "two", instanceType: "p4de.24xlarge" };
    const both = { ...deployment, models: [{ ...model, revisions: [revision, other] }] };
    expect(planDeployment(both).problems).toContainEqual({
      ...{ severity: "refused", field: "capacity.kind" },
      message: "one reservation holds one instance type, and there are p4d.24xlarge, p4de.24xlarge",
    });
  });
});

test("an answer as long as the context leaves no room for a prompt", () => {
  expect(problemsOf({ contextTokens: 512 })).toContainEqual(
    expect.objectContaining({ field: "models.0.sampling.maxTokens", severity: "refused" }),
  );
});

test("vCPUs of all groups, by the account's quotas", () => {
  const change = { nodes: 2, pipelineParallel: 2, groups: { min: 0, max: 3 } };
  const p = { name: "Running On-Demand P instances", code: "L-417A185B", vcpus: 576 };
  expect(planDeployment(deploymentOf(change)).quotas).toEqual([p]);
  const capacity = { kind: "block", id: "cr-0a", zone: "us-east-1b" } as const;
  expect(planDeployment(deploymentOf(change, { capacity })).quotas).toEqual([]);
});
