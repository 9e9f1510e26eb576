import { describe, expect, test } from "vitest";
import { parseModelConfig } from "../../dataplane/engine/checkpoint/model-config.ts";
import { rotaryFrequencies } from "../../dataplane/engine/model/rotary.ts";
import { tinyConfig } from "./tiny-checkpoint.ts";

test("fields that a checkpoint may leave out have their defaults", () => {
  const { head_dim, num_key_value_heads, rope_theta, tie_word_embeddings, ...rest } = tinyConfig;
  expect(head_dim + num_key_value_heads + rope_theta).toBeGreaterThan(0);
  const config = parseModelConfig(rest);
  expect(config.headSize).toBe(4);
  expect(config.keyValueHeads).toBe(8);
  expect(config.rope).toEqual({ theta: 10_000 });
  expect(config.tiedEmbeddings).toBe(!tie_word_embeddings);
});

describe("what is not supported is refused by the name of its field", () => {
  test.each([
    [{ architectures: ["MistralForCausalLM"] }, "architectures"],
    [{ hidden_act: "gelu" }, "hidden_act"],
    [{ attention_bias: true }, "attention_bias"],
    [{ mlp_bias: true }, "mlp_bias"],
    [{ quantization_config: { bits: 4 } }, "quantization_config"],
    [{ rope_scaling: { rope_type: "yarn", factor: 2 } }, "rope_type"],
  ])("%j", (fields, name) => {
    const parse = () => parseModelConfig({ ...tinyConfig, ...fields });
    expect(parse).toThrow(expect.objectContaining({ code: "unsupported_model" }));
    expect(parse).toThrow(name);
  });

  test.each([
    [{ hidden_size: 0 }, "hidden_size"],
    [{ num_hidden_layers: "3" }, "num_hidden_layers"],
    [{ vocab_size: 1.5 }, "vocab_size"],
    [{ num_key_value_heads: 3 }, "num_key_value_heads"],
    [{ head_dim: 7 }, "head_dim"],
    [{ rms_norm_eps: -1 }, "rms_norm_eps"],
    [{ eos_token_id: 101 }, "eos_token_id"],
  ])("%j", (fields, name) => {
    const parse = () => parseModelConfig({ ...tinyConfig, ...fields });
    expect(parse).toThrow(expect.objectContaining({ code: "invalid_checkpoint" }));
    expect(parse).toThrow(name);
  });
});

test("the generation config decides what ends an answer", () => {
  const json = { ...tinyConfig, eos_token_id: 4 };
  expect(parseModelConfig(json).eosTokens).toEqual([4]);
  expect(parseModelConfig(json, { eos_token_id: [5, 6] }).eosTokens).toEqual([5, 6]);
  expect(parseModelConfig(json, {}).eosTokens).toEqual([4]);
});

describe("rotary frequencies", () => {
  const llama3 = {
    rope_type: "llama3",
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  };
  const json = { ...tinyConfig, head_dim: 128, rope_theta: 500_000 };
  const plain = rotaryFrequencies(parseModelConfig(json));

  test("fall from 1 to nearly 1 / theta", () => {
    expect(plain.length).toBe(64);
    expect(plain[0]).toBe(1);
    expect(plain[63]).toBeCloseTo(500_000 ** (-63 / 64), 12);
  });

  test("of Llama 3.1: short waves as they were, long ones slower by the factor", () => {
    const scaled = rotaryFrequencies(parseModelConfig({ ...json, rope_scaling: llama3 }));
    expect(scaled[0]).toBe(plain[0]);
    expect(scaled[28]).toBe(plain[28]);
    expect((plain[31] ?? 0) / (scaled[31] ?? 1)).toBeGreaterThan(1);
    expect((plain[31] ?? 0) / (scaled[31] ?? 1)).toBeLessThan(8);
    expect((plain[63] ?? 0) / (scaled[63] ?? 1)).toBeCloseTo(8, 9);
  });

  test("are found in rope_parameters, too", () => {
    const { rope_theta, ...rest } = json;
    const config = parseModelConfig({ ...rest, rope_parameters: { ...llama3, rope_theta } });
    expect(config.rope.theta).toBe(500_000);
    expect(config.rope.llama3?.factor).toBe(8);
  });
});
