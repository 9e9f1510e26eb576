import { EngineError } from "../engine-error.ts";

/** The dimensions of a Llama model, as its config.json gives them. */
export interface ModelConfig {
  architecture: "LlamaForCausalLM";
  vocabularySize: number;
  hiddenSize: number;
  layers: number;
  /** Query heads. */
  heads: number;
  /** Heads of keys and values; each serves `heads / keyValueHeads` query heads. */
  keyValueHeads: number;
  headSize: number;
  mlpSize: number;
  contextLength: number;
  normEpsilon: number;
  rope: RotaryConfig;
  /** The output head is the embedding matrix. */
  tiedEmbeddings: boolean;
  eosTokens: number[];
}

export interface RotaryConfig {
  theta: number;
  /** The adaptation of the frequencies that Llama 3.1 brought, for contexts longer than trained. */
  llama3?: {
    factor: number;
    lowFrequencyFactor: number;
    highFrequencyFactor: number;
    originalContextLength: number;
  };
  /** The same adaptation as GGUF files have it: divisors of the frequencies, [headSize / 2]. */
  frequencyFactors?: readonly number[];
}

type JsonObject = Record<string, unknown>;

/** Positions and token ids are 32 bits wide. */
const largestSize = 2 ** 31 - 1;

/**
 * Reads a config.json and, where there is one, a generation_config.json (both parsed JSON).
 * Throws EngineError "unsupported_model" or "invalid_checkpoint", naming the field.
 */
export function parseModelConfig(json: unknown, generationJson?: unknown): ModelConfig {
  const config = asObject(json, "config.json");
  refuseUnsupported(config);
  const hiddenSize = positiveInteger(config, "hidden_size");
  const heads = positiveInteger(config, "num_attention_heads");
  return checkedConfig({
    architecture: "LlamaForCausalLM",
    vocabularySize: positiveInteger(config, "vocab_size"),
    hiddenSize,
    layers: positiveInteger(config, "num_hidden_layers"),
    heads,
    keyValueHeads: positiveInteger(config, "num_key_value_heads", heads),
    headSize: positiveInteger(config, "head_dim", hiddenSize / heads),
    mlpSize: positiveInteger(config, "intermediate_size"),
    contextLength: positiveInteger(config, "max_position_embeddings", 2048),
    normEpsilon: positiveNumber(config, "rms_norm_eps", 1e-6),
    rope: rotaryConfig(config),
    tiedEmbeddings: config["tie_word_embeddings"] === true,
    eosTokens: eosTokens(config, generationJson),
  });
}

/**
 * What the dimensions of any Llama model have to keep, by the names of config.json. Returns `config`.
 * Throws EngineError "invalid_checkpoint".
 */
export function checkedConfig(config: ModelConfig): ModelConfig {
  const { heads, keyValueHeads, headSize, vocabularySize, eosTokens } = config;
  const sizes = {
    vocab_size: vocabularySize,
    hidden_size: config.hiddenSize,
    num_hidden_layers: config.layers,
    num_attention_heads: heads,
    num_key_value_heads: keyValueHeads,
    head_dim: headSize,
    intermediate_size: config.mlpSize,
    max_position_embeddings: config.contextLength,
  };
  for (const field of Object.keys(sizes)) positiveInteger(sizes, field);
  positiveNumber({ rms_norm_eps: config.normEpsilon }, "rms_norm_eps");
  positiveNumber({ rope_theta: config.rope.theta }, "rope_theta");
  if (heads % keyValueHeads !== 0) {
    throw invalid(
      `num_attention_heads (${heads}) is no multiple of num_key_value_heads (${keyValueHeads})`,
    );
  }
  if (headSize % 2 !== 0) throw invalid(`head_dim (${headSize}) has to be even`);
  const stray = eosTokens.find((token) => !(token >= 0 && token < vocabularySize));
  if (stray !== undefined) throw invalid(`eos_token_id has ${stray}, which is no token id`);
  return config;
}

function refuseUnsupported(config: JsonObject): void {
  const architectures = config["architectures"];
  if (!Array.isArray(architectures) || !architectures.includes("LlamaForCausalLM")) {
    throw unsupported("architectures", architectures, '["LlamaForCausalLM"]');
  }
  const supported = { hidden_act: "silu", attention_bias: false, mlp_bias: false };
  for (const [field, value] of Object.entries(supported)) {
    const found = config[field] ?? value;
    if (found !== value) throw unsupported(field, found, JSON.stringify(value));
  }
  if (config["quantization_config"] != null) {
    throw unsupported("quantization_config", config["quantization_config"], "none");
  }
}

/** `rope_theta` and `rope_scaling`, or both in `rope_parameters` as newer checkpoints have it. */
function rotaryConfig(config: JsonObject): RotaryConfig {
  const parameters = asObject(config["rope_parameters"] ?? {}, "rope_parameters");
  const theta = positiveNumber({ ...config, ...parameters }, "rope_theta", 10_000);
  const scaling = asObject(config["rope_scaling"] ?? parameters, "rope_scaling");
  const type = scaling["rope_type"] ?? scaling["type"] ?? "default";
  if (type === "default") return { theta };
  if (type !== "llama3") throw unsupported("rope_type", type, '"default" or "llama3"');
  return {
    theta,
    llama3: {
      factor: positiveNumber(scaling, "factor"),
      lowFrequencyFactor: positiveNumber(scaling, "low_freq_factor"),
      highFrequencyFactor: positiveNumber(scaling, "high_freq_factor"),
      originalContextLength: positiveInteger(scaling, "original_max_position_embeddings"),
    },
  };
}

/** What ends an answer: the generation config decides, if it says anything. */
function eosTokens(config: JsonObject, generationJson: unknown): number[] {
  const generation = asObject(generationJson ?? {}, "generation_config.json");
  const found = generation["eos_token_id"] ?? config["eos_token_id"] ?? [];
  const tokens: unknown[] = Array.isArray(found) ? found : [found];
  return tokens.map((token) => {
    if (isInteger(token)) return token;
    throw invalid(`eos_token_id has ${shown(token)}, which is no token id`);
  });
}

function asObject(value: unknown, name: string): JsonObject {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return { ...value };
  }
  throw invalid(`${name} has to be an object`);
}

function isInteger(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

function positiveInteger(config: JsonObject, field: string, fallback?: number): number {
  const value = config[field] ?? fallback;
  if (isInteger(value) && value > 0 && value <= largestSize) return value;
  const limits = `from 1 to ${largestSize}`;
  throw invalid(`${field} has to be an integer ${limits}, and is ${shown(value)}`);
}

function positiveNumber(config: JsonObject, field: string, fallback?: number): number {
  const value = config[field] ?? fallback;
  if (typeof value === "number" && Number.isFinite(value) && value > 0) return value;
  throw invalid(`${field} has to be a number above 0, and is ${shown(value)}`);
}

/** A value for a message: short, whatever a file had in its place. */
function shown(value: unknown): string {
  if (Array.isArray(value)) return `[${value.slice(0, 4).map(scalarShown).join(", ")}]`;
  return scalarShown(value);
}

function scalarShown(value: unknown): string {
  if (typeof value === "object" && value !== null) return "an object";
  return String(JSON.stringify(value)).slice(0, 80);
}

function invalid(message: string): EngineError {
  return new EngineError("invalid_checkpoint", `The model's configuration: ${message}.`);
}

/** Why a model that is otherwise sound does not run here. */
export function unsupported(field: string, found: unknown, supported: string): EngineError {
  const message = `The model's ${field} is ${shown(found)}; supported is ${supported}.`;
  return new EngineError("unsupported_model", message);
}
