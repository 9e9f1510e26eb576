import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { open as openFileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { Checkpoint } from "../../dataplane/engine/checkpoint/checkpoint.ts";
import { openGguf } from "../../dataplane/engine/checkpoint/gguf.ts";
import { TensorFile } from "../../dataplane/engine/checkpoint/tensor-file.ts";
import { rotaryFrequencies } from "../../dataplane/engine/model/rotary.ts";
import { uniformAt } from "../../dataplane/engine/philox.ts";
import { type GgufTestTensor, ggufBytes, u32, u64 } from "../support/gguf-bytes.ts";
import { largestDifference, loadModelGroup, logitsOf } from "./model-group.ts";
import { temporaryFolder, tinyConfig, writeTinyCheckpoint } from "./tiny-checkpoint.ts";
import {
  floats,
  ggmlTypes,
  type TinyGgufOptions,
  tinyGgufTensors,
  tinyGgufValues,
  writeTinyGguf,
} from "./tiny-gguf.ts";

const whole = (rows: number, columns: number) =>
  ({ rows: [0, rows], columns: [0, columns] }) as const;

async function open(path: string): Promise<Checkpoint> {
  const checkpoint = await Checkpoint.open(path);
  onTestFinished(() => checkpoint.close());
  return checkpoint;
}

/** A tiny model, in both layouts. */
function tinyModel(options: TinyGgufOptions & { tied?: boolean } = {}) {
  const { folder, config, weights } = writeTinyCheckpoint({
    config: { tie_word_embeddings: options.tied ?? true },
  });
  return { folder, config, weights, gguf: writeTinyGguf(config, weights, options) };
}

describe("a GGUF file is the same model as its twin in the layout of Hugging Face", () => {
  test.each([true, false])("tied embeddings: %s", async (tied) => {
    const { folder, gguf, weights } = tinyModel({ tied });
    const [twin, checkpoint] = [await open(folder), await open(gguf)];
    const { normEpsilon, ...config } = checkpoint.config;
    const { normEpsilon: expected, ...twinConfig } = twin.config;
    expect(config).toEqual(twinConfig);
    expect(normEpsilon).toBeCloseTo(expected, 10);
    expect(checkpoint.parameters).toBe(twin.parameters);
    for (const [name, { shape, values }] of weights) {
      const [rows = 1, columns] = shape;
      const found =
        columns === undefined
          ? await checkpoint.vector(name, rows)
          : await checkpoint.matrix(name, [rows, columns], whole(rows, columns));
      expect([...found]).toEqual(values);
    }
  });

  test("queries and keys are read in the order of Hugging Face, wherever a slice begins", async () => {
    const { folder, gguf, config } = tinyModel();
    const [twin, checkpoint] = [await open(folder), await open(gguf)];
    const name = "model.layers.1.self_attn.q_proj.weight";
    const shape = [config.num_attention_heads * config.head_dim, config.hidden_size] as const;
    for (const rows of [
      [0, 8],
      [8, 16],
      [3, 5],
      [5, 30],
      [63, 64],
      [7, 7],
    ] as const) {
      const slice = { rows, columns: [5, 29] } as const;
      const expected = await twin.matrix(name, [...shape], slice);
      expect(await checkpoint.matrix(name, [...shape], slice)).toEqual(expected);
    }
  });

  test("it gives the same logits, on one rank and on two", async () => {
    const { folder, gguf } = tinyModel({ tied: false });
    const prompt = [5, 77, 3, 100, 42, 8, 19];
    const expected = await logitsOf(await loadModelGroup(folder, 1), prompt);
    for (const ranks of [1, 2]) {
      const logits = await logitsOf(await loadModelGroup(gguf, ranks), prompt);
      expect(largestDifference(logits, expected)).toBeLessThan(1e-4);
    }
  });

  test("a folder with one file is that file; with several it has to be named", async () => {
    const { gguf, config, weights } = tinyModel();
    const folder = dirname(gguf);
    const [byFile, byFolder] = [await open(gguf), await open(folder)];
    expect(byFolder.fingerprint).toBe(byFile.fingerprint);
    expect(byFile.name).toBe("model");
    const bytes = ggufBytes(tinyGgufValues(config), tinyGgufTensors(config, weights));
    writeFileSync(join(folder, "other.gguf"), bytes);
    await expect(Checkpoint.open(folder)).rejects.toMatchObject({
      code: "invalid_checkpoint",
      message: expect.stringContaining("model.gguf, other.gguf"),
    });
  });

  test("its fingerprint tells other weights apart", async () => {
    const one = tinyModel();
    const { config, weights } = writeTinyCheckpoint({ seed: 2 });
    const other = await open(writeTinyGguf(config, weights));
    expect(other.fingerprint).not.toBe((await open(one.gguf)).fingerprint);
  });
});

test("a slice reads the bytes of its rows, of interleaved heads those heads, and no others", async () => {
  const { gguf, config } = tinyModel();
  const { file } = await openGguf(gguf);
  await file.close();
  const handle = await openFileHandle(gguf);
  onTestFinished(() => handle.close());
  const reads: [number, number][] = [];
  const recording = new Proxy(handle, {
    get: (target, key) => {
      if (key !== "read") return Reflect.get(target, key);
      return (buffer: Buffer, offset: number, length: number, position: number) => {
        reads.push([position, position + length]);
        return target.read(buffer, offset, length, position);
      };
    },
  });
  const recorded = new TensorFile(gguf, recording, file.tensors);
  const { hidden_size: width, head_dim: head, intermediate_size: mlp } = config;
  const rowBytes = width * 4;
  const readBy = async (name: string, rows: readonly [number, number], all: number) => {
    reads.length = 0;
    await recorded.readMatrix(name, [all, width], { rows, columns: [0, width] });
    const start = file.tensors.get(name)?.offset ?? 0;
    return reads.map(([from, to]) => [(from - start) / rowBytes, (to - start) / rowBytes]);
  };
  const queries = config.num_attention_heads * head;
  const prefix = "model.layers.2";
  expect(await readBy(`${prefix}.mlp.up_proj.weight`, [7, 30], mlp)).toEqual([[7, 30]]);
  expect(await readBy(`${prefix}.self_attn.q_proj.weight`, [16, 40], queries)).toEqual([[16, 40]]);
  expect(await readBy(`${prefix}.self_attn.q_proj.weight`, [17, 18], queries)).toEqual([[16, 24]]);
});

describe("what its header says beside the sizes", () => {
  test("tokens that end an answer", async () => {
    const values = {
      "tokenizer.ggml.eos_token_id": 7,
      "tokenizer.ggml.eot_token_id": 9,
      "tokenizer.ggml.eom_token_id": 7,
    };
    const { config } = await open(tinyModel({ values }).gguf);
    expect(config.eosTokens).toEqual([7, 9]);
  });

  test("divisors of the rotary frequencies", async () => {
    const data = floats([1, 2, 4, 8]);
    const factors = { name: "rope_freqs.weight", shape: [4], type: ggmlTypes.F32, data };
    const { config } = await open(tinyModel({ tensors: [factors] }).gguf);
    const plain = rotaryFrequencies({ ...config, rope: { theta: config.rope.theta } });
    const expected = [...plain].map((frequency, i) => frequency / 2 ** i);
    expect([...rotaryFrequencies(config)]).toEqual(expected);
  });
});

describe("numbers of each type", () => {
  const [rows, width] = [6, 96];
  const random = Array.from({ length: rows * width }, (_, i) => 2 * uniformAt(3, i) - 1);
  const byte = (at: number) => Math.floor(uniformAt(4, at) * 256);
  /** An f16 of a quarter, of one and a half, of minus two, and the smallest. */
  const halves: [number, number][] = [
    [0x3400, 0.25],
    [0x3e00, 1.5],
    [0xc000, -2],
    [0x0001, 2 ** -24],
  ];

  /** Blocks of 32 with random content, and what it says by the format's definition. */
  function blocks(kind: "Q8_0" | "Q4_0" | "Q4_1") {
    const values: number[] = [];
    const data: number[] = [];
    for (let block = 0; block < (rows * width) / 32; block += 1) {
      const [bits, scale] = halves[block % 4] ?? [0, 0];
      const [otherBits, minimum] = halves[(block + 1) % 4] ?? [0, 0];
      data.push(bits & 0xff, bits >> 8);
      if (kind === "Q4_1") data.push(otherBits & 0xff, otherBits >> 8);
      const content = Array.from({ length: kind === "Q8_0" ? 32 : 16 }, (_, i) =>
        byte(32 * block + i),
      );
      data.push(...content);
      if (kind === "Q8_0") values.push(...content.map((x) => scale * (x < 128 ? x : x - 256)));
      const nibbles = [...content.map((x) => x % 16), ...content.map((x) => Math.floor(x / 16))];
      if (kind === "Q4_0") values.push(...nibbles.map((x) => scale * (x - 8)));
      if (kind === "Q4_1") values.push(...nibbles.map((x) => scale * x + minimum));
    }
    return { data: Buffer.from(data), values: values.map(Math.fround) };
  }

  function halfBytes(shift: number): { data: Buffer; values: number[] } {
    const numbers = random.map((value) => Math.round(value * 64) / 64);
    const bits = new Uint32Array(Float32Array.from(numbers).buffer);
    const upper = Uint16Array.from(bits, (value) => {
      if (shift === 16 || (value & 0x7fffffff) === 0) return value >>> 16;
      return (
        ((value >>> 16) & 0x8000) |
        ((((value >>> 23) & 0xff) - 112) << 10) |
        ((value >>> 13) & 0x3ff)
      );
    });
    return { data: Buffer.from(upper.buffer), values: numbers };
  }

  const kinds: [keyof typeof ggmlTypes, { data: Buffer; values: number[] }][] = [
    ["F32", { data: floats(random), values: random.map(Math.fround) }],
    ["BF16", halfBytes(16)],
    ["F16", halfBytes(13)],
    ["Q8_0", blocks("Q8_0")],
    ["Q4_0", blocks("Q4_0")],
    ["Q4_1", blocks("Q4_1")],
  ];

  test.each(kinds)("%s, in slices that begin and end anywhere", async (kind, { data, values }) => {
    const sizes = { hidden_size: width, num_hidden_layers: 1, intermediate_size: rows };
    const { config, weights } = writeTinyCheckpoint({ config: sizes });
    const tensors = tinyGgufTensors(config, weights).map((tensor): GgufTestTensor => {
      if (tensor.name !== "blk.0.ffn_gate.weight") return tensor;
      return { ...tensor, type: ggmlTypes[kind], data };
    });
    const path = join(temporaryFolder(), "model.gguf");
    writeFileSync(path, ggufBytes(tinyGgufValues(config), tensors));
    const checkpoint = await open(path);
    const ranges = [
      [0, 96],
      [32, 64],
      [1, 95],
      [31, 33],
      [40, 41],
      [64, 96],
    ] as const;
    for (const columns of ranges) {
      const slice = { rows: [1, 5], columns } as const;
      const name = "model.layers.0.mlp.gate_proj.weight";
      const found = await checkpoint.matrix(name, [rows, width], slice);
      const expected = [1, 2, 3, 4].flatMap((row) => {
        return values.slice(row * width + columns[0], row * width + columns[1]);
      });
      expect([...found]).toEqual(expected);
    }
  });
});

describe("what we do not run is refused at once, by its name", () => {
  const extra = (name: string, type: number = ggmlTypes.F32): TinyGgufOptions => ({
    tensors: [{ name, shape: [32], type, data: floats(Array(32).fill(0)) }],
  });
  const cases: [string, TinyGgufOptions, RegExp][] = [
    [
      "architecture",
      { values: { "general.architecture": "qwen2" } },
      /architecture is "qwen2".*"llama"/,
    ],
    [
      "linear scaling",
      { values: { "llama.rope.scaling.type": "linear" } },
      /scaling.type is "linear"/,
    ],
    ["yarn", { values: { "llama.rope.scaling.type": "yarn" } }, /scaling.type is "yarn"/],
    [
      "old linear scaling",
      { values: { "llama.rope.scale_linear": { f32: 4 } } },
      /scale_linear is 4/,
    ],
    ["experts", { values: { "llama.expert_count": 8 } }, /expert_count is 8; supported is 0/],
    [
      "sliding window",
      { values: { "llama.attention.sliding_window": 512 } },
      /sliding_window is 512/,
    ],
    ["an unknown kind of attention", { values: { "llama.attention.sinks": 1 } }, /sinks/],
    [
      "values of another size",
      { values: { "llama.attention.value_length": 4 } },
      /value_length is 4/,
    ],
    ["half rotated heads", { values: { "llama.rope.dimension_count": 4 } }, /dimension_count is 4/],
    ["a part of a file", { values: { "split.count": 2 } }, /split.count is 2; .*merge/],
    ["bias", extra("blk.0.attn_q.bias"), /attn_q\.bias/],
    ["norms of queries", extra("blk.0.attn_q_norm.weight"), /attn_q_norm/],
    [
      "a tensor of another name",
      extra("blk.0.attn_norm.weight2", ggmlTypes.Q4_K),
      /attn_norm\.weight2/,
    ],
  ];
  test.each(cases)("%s", async (_, options, message) => {
    await expect(Checkpoint.open(tinyModel(options).gguf)).rejects.toMatchObject({
      code: "unsupported_model",
      message: expect.stringMatching(message),
    });
  });

  test("numbers in a type that we do not read", async () => {
    const { config, weights } = writeTinyCheckpoint();
    const tensors = tinyGgufTensors(config, weights).map((tensor) => {
      return tensor.name === "token_embd.weight" ? { ...tensor, type: ggmlTypes.Q4_K } : tensor;
    });
    const path = join(temporaryFolder(), "model.gguf");
    writeFileSync(path, ggufBytes(tinyGgufValues(config), tensors));
    await expect(Checkpoint.open(path)).rejects.toMatchObject({
      code: "unsupported_model",
      message: expect.stringMatching(
        /token_embd.*Q4_K; supported are F32, F16, BF16, Q8_0, Q4_0, Q4_1/,
      ),
    });
  });

  test("an old version, and one for other machines", async () => {
    for (const [version, message] of [
      [1, /version 1/],
      [0x3000000, /big-endian/],
    ] as const) {
      const path = join(temporaryFolder(), "model.gguf");
      writeFileSync(path, ggufBytes({}, [], { version }));
      await expect(Checkpoint.open(path)).rejects.toMatchObject({
        code: "unsupported_model",
        message: expect.stringMatching(message),
      });
    }
  });
});

describe("a damaged file is refused before anything is allocated for it", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "axon-gguf-"));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const { version, gguf } = { version: u32(3), gguf: Buffer.from("GGUF") };
  const counts = (tensors: number, values: number) => [gguf, version, u64(tensors), u64(values)];
  const text = (content: string) => Buffer.concat([u64(content.length), Buffer.from(content)]);
  const model = tinyGgufValues(tinyConfig);
  const tensor = {
    name: "token_embd.weight",
    shape: [101, 32],
    type: 0,
    data: Buffer.alloc(101 * 128),
  };
  const cases: [string, Buffer, RegExp][] = [
    ["an empty one", Buffer.alloc(0), /no GGUF/],
    ["another format", Buffer.from("PK\u0003\u0004 and so on, longer than a header"), /no GGUF/],
    ["one that ends in its header", Buffer.concat(counts(0, 3)), /has 24/],
    ["2^60 tensors", Buffer.concat(counts(2 ** 60, 0)), /claims \d{19} tensors/],
    ["a text of 2^50 bytes", Buffer.concat([...counts(0, 1), u64(2 ** 50)]), /name of/],
    [
      "a list of 2^50 texts",
      Buffer.concat([...counts(0, 1), text("a"), u32(9), u32(8), u64(2 ** 50)]),
      /claims \d+ bytes/,
    ],
    [
      "a list of lists",
      Buffer.concat([...counts(0, 1), text("a"), u32(9), u32(9), u64(1)]),
      /array of arrays/,
    ],
    ["a type that is none", Buffer.concat([...counts(0, 1), text("a"), u32(77)]), /type 77/],
    [
      "a key twice",
      Buffer.concat([
        ...counts(0, 2),
        text("a"),
        u32(0),
        Buffer.from([1]),
        text("a"),
        u32(0),
        Buffer.from([1]),
      ]),
      /twice/,
    ],
    ["no sizes", ggufBytes({ "general.architecture": "llama" }), /lacks llama.embedding_length/],
    ["no tensors", ggufBytes(model), /lacks tensor model.embed_tokens/],
    [
      "a size that is a text",
      ggufBytes({ ...model, "llama.block_count": "3" }),
      /block_count is no number/,
    ],
    ["sizes by layer", ggufBytes({ ...model, "llama.feed_forward_length": [1, 2] }), /is a list/],
    ["an odd alignment", ggufBytes({ ...model, "general.alignment": 48 }), /alignment is 48/],
    [
      "a tensor behind the end",
      ggufBytes(model, [{ ...tensor, offset: 1 << 20 }]),
      /claims 12928 bytes/,
    ],
    [
      "a tensor of 2^100 numbers",
      ggufBytes(model, [{ ...tensor, shape: [2 ** 50, 2 ** 50] }]),
      /claims/,
    ],
    [
      "five dimensions",
      ggufBytes(model, [{ ...tensor, shape: [1, 1, 1, 101, 32] }]),
      /5 dimensions/,
    ],
    ["one that begins within a unit", ggufBytes(model, [{ ...tensor, offset: 4 }]), /claims/],
    [
      "tensors over each other",
      ggufBytes(model, [tensor, { ...tensor, name: "output.weight", offset: 0 }]),
      /overlaps/,
    ],
    ["a tensor twice", ggufBytes(model, [tensor, tensor]), /twice/],
    [
      "half a block",
      ggufBytes(model, [{ ...tensor, shape: [101, 16], type: 8 }]),
      /no whole Q8_0 blocks/,
    ],
    ["another shape", ggufBytes(model, [{ ...tensor, shape: [100, 32] }]), /asks for \[101,32\]/],
  ];
  test.each(cases)("%s", async (name, bytes, message) => {
    const path = join(folder, `${name.replaceAll(" ", "-")}.gguf`);
    writeFileSync(path, bytes);
    await expect(Checkpoint.open(path)).rejects.toMatchObject({
      code: "invalid_checkpoint",
      message: expect.stringMatching(message),
    });
  });

  test("one that was cut off", async () => {
    const { gguf: path } = tinyModel();
    truncateSync(path, 20_000);
    await expect(Checkpoint.open(path)).rejects.toMatchObject({ code: "invalid_checkpoint" });
  });

  test("a path that leads nowhere, or to a folder", async () => {
    for (const path of [join(folder, "nowhere.gguf"), folder]) {
      await expect(Checkpoint.open(path)).rejects.toMatchObject({ code: "invalid_checkpoint" });
    }
  });
});
