import type { TinyConfig, TinyWeights } from "./tiny-checkpoint.ts";

/**
 * A Llama forward pass written to be obviously right: float64, whole matrices, no cache, no shards.
 * It shares no code with the engine that is compared with it.
 */

type Vector = number[];
type Matrix = Vector[];

/** Logits [positions][vocabulary] for token ids [positions]. */
export function naiveLogits(config: TinyConfig, weights: TinyWeights, tokens: number[]): Matrix {
  const matrix = (name: string): Matrix => {
    const { shape, values } = weights.get(name) ?? { shape: [0, 0], values: [] };
    const [rows = 0, columns = 0] = shape;
    return Array.from({ length: rows }, (_, r) => values.slice(r * columns, (r + 1) * columns));
  };
  const vector = (name: string): Vector => weights.get(name)?.values ?? [];
  const embedding = matrix("model.embed_tokens.weight");
  let x = tokens.map((token) => embedding[token] ?? []);
  for (let layer = 0; layer < config.num_hidden_layers; layer += 1) {
    const at = (name: string) => `model.layers.${layer}.${name}.weight`;
    const normed = x.map((row) => norm(row, vector(at("input_layernorm")), config.rms_norm_eps));
    const project = (name: string) => normed.map((row) => apply(matrix(at(name)), row));
    const mixed = attention(
      config,
      project("self_attn.q_proj"),
      project("self_attn.k_proj"),
      project("self_attn.v_proj"),
    );
    x = x.map((row, t) => plus(row, apply(matrix(at("self_attn.o_proj")), mixed[t] ?? [])));
    x = x.map((row) => {
      const input = norm(row, vector(at("post_attention_layernorm")), config.rms_norm_eps);
      const gate = apply(matrix(at("mlp.gate_proj")), input);
      const up = apply(matrix(at("mlp.up_proj")), input);
      const inner = gate.map((g, i) => (g / (1 + Math.exp(-g))) * (up[i] ?? 0));
      return plus(row, apply(matrix(at("mlp.down_proj")), inner));
    });
  }
  const head = config.tie_word_embeddings ? embedding : matrix("lm_head.weight");
  const finalNorm = vector("model.norm.weight");
  return x.map((row) => apply(head, norm(row, finalNorm, config.rms_norm_eps)));
}

function attention(config: TinyConfig, q: Matrix, k: Matrix, v: Matrix): Matrix {
  const size = config.head_dim;
  const group = config.num_attention_heads / config.num_key_value_heads;
  const head = (row: Vector | undefined, index: number) =>
    (row ?? []).slice(index * size, (index + 1) * size);
  return q.map((_, t) => {
    const heads: Vector = [];
    for (let h = 0; h < config.num_attention_heads; h += 1) {
      const shared = Math.floor(h / group);
      const query = rotate(head(q[t], h), t, config.rope_theta);
      const scores = Array.from({ length: t + 1 }, (_, s) => {
        return dot(query, rotate(head(k[s], shared), s, config.rope_theta)) / Math.sqrt(size);
      });
      const weights = scores.map(Math.exp);
      const sum = weights.reduce((a, b) => a + b, 0);
      for (let i = 0; i < size; i += 1) {
        heads.push(weights.reduce((a, w, s) => a + (w / sum) * (head(v[s], shared)[i] ?? 0), 0));
      }
    }
    return heads;
  });
}

/** Hugging Face: x·cos + rotate_half(x)·sin, rotate_half(x) being (−second half, first half). */
function rotate(x: Vector, position: number, theta: number): Vector {
  const half = x.length / 2;
  const rotated = [...x.slice(half).map((value) => -value), ...x.slice(0, half)];
  return x.map((value, i) => {
    const angle = position / theta ** ((2 * (i % half)) / x.length);
    return value * Math.cos(angle) + (rotated[i] ?? 0) * Math.sin(angle);
  });
}

function norm(x: Vector, weight: Vector, epsilon: number): Vector {
  const scale = Math.sqrt(dot(x, x) / x.length + epsilon);
  return x.map((value, i) => (value / scale) * (weight[i] ?? 0));
}

function apply(matrix: Matrix, x: Vector): Vector {
  return matrix.map((row) => dot(row, x));
}

function dot(a: Vector, b: Vector): number {
  return a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);
}

function plus(a: Vector, b: Vector): Vector {
  return a.map((value, i) => value + (b[i] ?? 0));
}
