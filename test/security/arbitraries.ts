import fc from "fast-check";
import type * as z from "zod";

/**
 * What no door was made for. Each text has the mark in it, in values and in names, so that a test can look
 * for it in log lines; no id of ours can have it.
 */
export const mark = "qz.xv!";

/** Which cases are tried; the same ones in every run. Another seed is worth a try by hand. */
export function cases(numRuns: number): fc.Parameters<unknown> {
  const seed = 20_260_131;
  console.info(`${numRuns} cases of the seed ${seed}`);
  return { seed, numRuns };
}

export const text: fc.Arbitrary<string> = fc
  .oneof(
    fc.string({ unit: "binary", maxLength: 40 }),
    fc.constantFrom(
      ...["", "\u0000", "\ud800", "\ufffe", "../../etc/passwd", "'; DROP TABLE turns; --"],
      ...["{turn}", "__proto__", "constructor", "%00", "\r\nx-evil: 1", "\u202e", "NaN"],
    ),
  )
  .map((one) => mark + one);

const scalar: fc.Arbitrary<unknown> = fc.oneof(
  text,
  fc.constantFrom<unknown>(null, true, false, 0, -1, 1.5, 1e308, -0, 2 ** 53, "", [], {}),
  fc.double({ noDefaultInfinity: true, noNaN: true }),
);

/** Any value that JSON can have. */
export const value: fc.Arbitrary<unknown> = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    scalar,
    fc.array(tie("value"), { maxLength: 3 }),
    fc.dictionary(text, tie("value"), { maxKeys: 3 }),
  ),
})).value;

/** Deeper than a function that calls itself may go. */
export const deep: string = `${"[".repeat(12_000)}${"]".repeat(12_000)}`;

/** A sound object with one thing wrong: a field changed, left out, or too many. */
export function damaged(sound: Record<string, unknown>): fc.Arbitrary<Record<string, unknown>> {
  const name = fc.constantFrom(...Object.keys(sound));
  return fc.oneof(
    fc.tuple(name, value).map(([field, wrong]) => ({ ...sound, [field]: wrong })),
    name.map((field) => Object.fromEntries(Object.entries(sound).filter(([key]) => key !== field))),
    fc.tuple(text, value).map(([field, wrong]) => ({ ...sound, [field]: wrong })),
  );
}

/** What may come where JSON is awaited. */
export const body = (sound: Record<string, unknown>): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 4, arbitrary: damaged(sound).map((object) => JSON.stringify(object)) },
    { weight: 2, arbitrary: value.map((any) => JSON.stringify(any)) },
    { weight: 1, arbitrary: text },
    { weight: 1, arbitrary: fc.constantFrom("", "{", "null", "[]", '"', deep, `{"a":${deep}}`) },
    {
      weight: 1,
      arbitrary: fc
        .nat(JSON.stringify(sound).length)
        .map((at) => JSON.stringify(sound).slice(0, at)),
    },
  );

/** Whether a text is what a schema wants after all: then it is no case. */
export function isSound(schema: z.ZodType, sent: string): boolean {
  try {
    return schema.safeParse(JSON.parse(sent)).success;
  } catch {
    return false;
  }
}
