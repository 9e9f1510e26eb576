import type { ModelConfig } from "../../dataplane/engine/checkpoint/model-config.ts";

/** A tensor of a Llama checkpoint, under its name in either layout. */
export interface ModelTensor {
  /** As Hugging Face's safetensors have it. */
  name: string;
  /** As llama.cpp's GGUF has it. */
  ggufName: string;
  /** [outputs, inputs], or [length] of a norm's weights. */
  shape: readonly [number, number] | readonly [number];
  /**
   * Heads whose rows llama.cpp keeps in another order: its rotary embedding turns neighbouring
   * dimensions, Hugging Face's those that are half a head apart.
   */
  rotaryHeads?: number;
}

/** All tensors of a model whose output head is its embedding matrix. */
export function modelTensors(config: ModelConfig): ModelTensor[] {
  const { hiddenSize: hidden, mlpSize, heads, keyValueHeads, headSize, vocabularySize } = config;
  const layers = Array.from({ length: config.layers }, (_, layer): ModelTensor[] => {
    const tensor = (name: string, ggufName: string, ...shape: [number, number] | [number]) => ({
      name: `model.layers.${layer}.${name}.weight`,
      ggufName: `blk.${layer}.${ggufName}.weight`,
      shape,
    });
    const [queries, keys] = [heads * headSize, keyValueHeads * headSize];
    return [
      tensor("input_layernorm", "attn_norm", hidden),
      { ...tensor("self_attn.q_proj", "attn_q", queries, hidden), rotaryHeads: heads },
      { ...tensor("self_attn.k_proj", "attn_k", keys, hidden), rotaryHeads: keyValueHeads },
      tensor("self_attn.v_proj", "attn_v", keys, hidden),
      tensor("self_attn.o_proj", "attn_output", hidden, queries),
      tensor("post_attention_layernorm", "ffn_norm", hidden),
      tensor("mlp.gate_proj", "ffn_gate", mlpSize, hidden),
      tensor("mlp.up_proj", "ffn_up", mlpSize, hidden),
      tensor("mlp.down_proj", "ffn_down", hidden, mlpSize),
    ];
  });
  return [
    {
      name: "model.embed_tokens.weight",
      ggufName: "token_embd.weight",
      shape: [vocabularySize, hidden],
    },
    ...layers.flat(),
    { name: "model.norm.weight", ggufName: "output_norm.weight", shape: [hidden] },
  ];
}

/** Bytes of weights that each decoded token reads, when they are kept in 8 bits with a 2-byte scale
 * for each 32: all matrices, the embedding as the output head. Norms are left out. */
export function weightBytesPerToken(config: ModelConfig): number {
  const weights = modelTensors(config).reduce((sum, { shape }) => {
    const [outputs, inputs] = shape;
    return inputs === undefined ? sum : sum + outputs * inputs;
  }, 0);
  return (weights / 32) * 34;
}
