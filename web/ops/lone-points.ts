/** Where values stand with none beside them: a line through them would show nothing. */
export function lonePoints(values: ArrayLike<number | null | undefined>): number[] {
  const isThere = (i: number) => typeof values[i] === "number";
  return Array.from(values, (_, i) => i).filter(
    (i) => isThere(i) && !isThere(i - 1) && !isThere(i + 1),
  );
}
