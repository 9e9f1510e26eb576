import {
  type Deployment,
  type DeploymentInput,
  defineDeployment,
  type ModelShape,
  type Revision,
} from "../../cluster/deployment.ts";

/** Deployments to plan: Llama-3-70B on one p4d, and whatever a test wants different. */

export const llama70b: ModelShape = {
  ...{ parameters: 70_553_706_496, layers: 80, hiddenSize: 8_192 },
  ...{ attentionHeads: 64, keyValueHeads: 8, headSize: 128, vocabularySize: 128_256 },
  dtype: "bfloat16",
};

/** Its input embedding is its output head. */
export const llama1b: ModelShape = {
  ...{ parameters: 1_235_814_400, layers: 16, hiddenSize: 2_048, tiedEmbeddings: true },
  ...{ attentionHeads: 32, keyValueHeads: 8, headSize: 64, vocabularySize: 128_256 },
  dtype: "bfloat16",
};

type RevisionInput = DeploymentInput["models"][number]["revisions"][number];

const onOneP4d: RevisionInput = {
  ...{ revision: "one", weights: "one/1", shape: llama70b },
  engine: { kind: "vllm", image: "vllm/vllm-openai:v0.18.0" },
  ...{ instanceType: "p4d.24xlarge", nodes: 1, tensorParallel: 8, pipelineParallel: 1 },
  ...{ contextTokens: 8_192, slots: 32, groups: { min: 1, max: 2 } },
};

export const onCpus: Partial<RevisionInput> = {
  ...{ shape: llama1b, engine: { kind: "embedded" }, instanceType: "c7a.4xlarge" },
  ...{ tensorParallel: 8, contextTokens: 2_048, slots: 4 },
};

export function deploymentOf(
  revision: Partial<RevisionInput> = {},
  rest: Partial<DeploymentInput> = {},
): Deployment {
  return defineDeployment({
    region: "us-east-1",
    models: [
      {
        ...{ model: "a", default: true },
        sampling: {
          ...{ maxTokens: 512, temperature: 0, topK: 0, topP: 1 },
          ...{ minP: 0, repetitionPenalty: 1, stop: [] },
        },
        revisions: [{ ...onOneP4d, ...revision }],
      },
    ],
    ...rest,
  });
}

export function revisionOf(revision: Partial<RevisionInput> = {}): Revision {
  return deploymentOf(revision).models[0]?.revisions[0] as Revision;
}
