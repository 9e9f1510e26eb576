import type { ModelConfig } from "./model-config.ts";
import { expectTensor, type TensorEntry } from "./tensor-file.ts";

/** The tensors of a Llama model, by their names in Hugging Face checkpoints, with their shapes. */
export function* modelTensors(config: ModelConfig): Generator<[string, number[]]> {
  const { hiddenSize, headSize, mlpSize, vocabularySize } = config;
  const queries = config.heads * headSize;
  const keys = config.keyValueHeads * headSize;
  yield ["model.embed_tokens.weight", [vocabularySize, hiddenSize]];
  yield ["model.norm.weight", [hiddenSize]];
  if (!config.tiedEmbeddings) yield ["lm_head.weight", [vocabularySize, hiddenSize]];
  for (let layer = 0; layer < config.layers; layer += 1) {
    const prefix = `model.layers.${layer}`;
    yield [`${prefix}.input_layernorm.weight`, [hiddenSize]];
    yield [`${prefix}.self_attn.q_proj.weight`, [queries, hiddenSize]];
    yield [`${prefix}.self_attn.k_proj.weight`, [keys, hiddenSize]];
    yield [`${prefix}.self_attn.v_proj.weight`, [keys, hiddenSize]];
    yield [`${prefix}.self_attn.o_proj.weight`, [hiddenSize, queries]];
    yield [`${prefix}.post_attention_layernorm.weight`, [hiddenSize]];
    yield [`${prefix}.mlp.gate_proj.weight`, [mlpSize, hiddenSize]];
    yield [`${prefix}.mlp.up_proj.weight`, [mlpSize, hiddenSize]];
    yield [`${prefix}.mlp.down_proj.weight`, [hiddenSize, mlpSize]];
  }
}

/**
 * Throws EngineError when a tensor that the configuration asks for is missing, has another shape or a
 * type that we do not read. Past it, the configuration claims no more than the files hold.
 */
export function checkTensors(config: ModelConfig, tensors: ReadonlyMap<string, TensorEntry>): void {
  for (const [name, shape] of modelTensors(config)) expectTensor(tensors, name, shape);
}
