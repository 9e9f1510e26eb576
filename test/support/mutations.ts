import fc from "fast-check";

/** Damage to sound files, for property tests. */

export type ByteMutation = (bytes: Buffer) => Buffer;

/** Numbers that counts, lengths and offsets are tried with. */
const numbers = [0n, 1n, 31n, 255n, 2n ** 16n, 2n ** 31n - 1n, 2n ** 32n, 2n ** 53n, 2n ** 63n];

/** `reach` is how much of the file's start is worth damaging, in bytes. */
export function byteMutation(reach: number): fc.Arbitrary<ByteMutation> {
  const at = fc.nat(Math.max(0, reach - 1));
  return fc.oneof(
    fc.tuple(at, fc.nat(7)).map(([position, bit]): ByteMutation => {
      return (bytes) => changed(bytes, position, [(bytes[position] ?? 0) ^ (1 << bit)]);
    }),
    fc.tuple(at, fc.nat(255)).map(([position, byte]): ByteMutation => {
      return (bytes) => changed(bytes, position, [byte]);
    }),
    fc.tuple(at, fc.constantFrom(...numbers)).map(([position, number]): ByteMutation => {
      const content = Buffer.alloc(8);
      content.writeBigUInt64LE(number);
      return (bytes) => changed(bytes, position, content);
    }),
    at.map(
      (position): ByteMutation =>
        (bytes) =>
          bytes.subarray(0, position),
    ),
    fc.tuple(at, at, fc.nat(64)).map(([from, to, length]): ByteMutation => {
      return (bytes) => changed(bytes, to, bytes.subarray(from, from + length));
    }),
    fc.tuple(at, fc.nat(64)).map(([position, length]): ByteMutation => {
      return (bytes) =>
        Buffer.concat([bytes.subarray(0, position), bytes.subarray(position + length)]);
    }),
  );
}

function changed(bytes: Buffer, position: number, content: ArrayLike<number>): Buffer {
  const copy = Buffer.from(bytes);
  for (let i = 0; i < content.length && position + i < copy.length; i += 1) {
    copy[position + i] = content[i] ?? 0;
  }
  return copy;
}

/** What a value of a JSON text is replaced by, as text. */
const oddities = [
  ...["null", "true", "0", "-1", "1.5", "3", "1e300", "9007199254740993", '""', '"x"', "[]", "{}"],
  ...["[null]", '{"__proto__":{"a":1}}', '"\\ud800"', '"F16"', '["LlamaForCausalLM"]'],
  JSON.stringify("y".repeat(100_000)),
  `${"[".repeat(20_000)}${"]".repeat(20_000)}`,
  `${'{"a":'.repeat(20_000)}1${"}".repeat(20_000)}`,
  `[${"1,".repeat(20_000)}1]`,
];

export type JsonMutation = readonly { node: number; oddity: string }[];

export const jsonMutation: fc.Arbitrary<JsonMutation> = fc.array(
  fc.record({ node: fc.nat(), oddity: fc.constantFrom(...oddities) }),
  { minLength: 1, maxLength: 3 },
);

/** The JSON text of `value` with some of its nodes replaced; those high up as often as leaves. */
export function mutateJson(value: object, mutation: JsonMutation): string {
  const copy: unknown = structuredClone(value);
  const raw: string[] = [];
  for (const { node, oddity } of mutation) {
    const nodes = [...nodesOf(copy, 0)];
    const depth = node % 4;
    const near = nodes.filter((place) => place.depth === depth);
    const places = near.length > 0 ? near : nodes;
    const place = places[Math.floor(node / 4) % places.length];
    if (place === undefined) continue;
    place.parent[place.key] = `@raw${raw.length}@`;
    raw.push(oddity);
  }
  return JSON.stringify(copy).replace(/"@raw(\d+)@"/g, (_, index) => raw[Number(index)] ?? "");
}

interface Place {
  parent: Record<string, unknown>;
  key: string;
  depth: number;
}

function* nodesOf(value: unknown, depth: number): Generator<Place> {
  if (typeof value !== "object" || value === null) return;
  const parent = value as Record<string, unknown>;
  for (const key of Object.keys(parent)) {
    yield { parent, key, depth };
    yield* nodesOf(parent[key], depth + 1);
  }
}
