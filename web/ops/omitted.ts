/** The server shows `{ omitted: <bytes> }` in the place of what was asked and answered. */
export function omittedBytes(value: unknown): number | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { omitted, ...rest } = value as { omitted?: unknown };
  return typeof omitted === "number" && Object.keys(rest).length === 0 ? omitted : undefined;
}
