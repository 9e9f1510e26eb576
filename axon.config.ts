import { defineDeployment } from "./cluster/deployment.ts";

/**
 * What is deployed: Llama-3-70B in bf16, 141 GB of weights, on groups of two p4d.24xlarge. Tensor
 * parallelism stays within a node, where NVLink joins the GPUs; the two halves of the layers are on two
 * nodes, which EFA joins. `npx axon plan` shows what this takes and costs.
 */
export default defineDeployment({
  region: "us-east-1",
  models: [
    {
      model: "llama-3-70b",
      default: true,
      sampling: {
        ...{ maxTokens: 1_024, temperature: 0.6, topK: 0, topP: 0.9 },
        ...{ minP: 0, repetitionPenalty: 1, stop: [] },
      },
      revisions: [
        {
          revision: "llama-3-70b-instruct-1",
          weights: "llama-3-70b-instruct/1",
          shape: {
            ...{ parameters: 70_553_706_496, layers: 80, hiddenSize: 8_192 },
            ...{ attentionHeads: 64, keyValueHeads: 8, headSize: 128, vocabularySize: 128_256 },
            dtype: "bfloat16",
          },
          // AWS's build of vLLM, with the plugin that lets NCCL use EFA; vllm/vllm-openai has none.
          engine: {
            kind: "vllm",
            image: "public.ecr.aws/deep-learning-containers/vllm:server-cuda-v1",
          },
          instanceType: "p4d.24xlarge",
          nodes: 2,
          tensorParallel: 8,
          pipelineParallel: 2,
          contextTokens: 8_192,
          slots: 64,
          groups: { min: 1, max: 2 },
        },
      ],
    },
  ],
});
