/** A field of a folded state, and what the last commit has made of it. */
export interface StateField {
  name: string;
  value: unknown;
  change: "added" | "changed" | "removed" | undefined;
}

/** What the commit has changed comes first. @param before the state without the commit; undefined where there was none, or it is not known yet. */
export function stateFields(
  after: Readonly<Record<string, unknown>>,
  before: Readonly<Record<string, unknown>> | undefined,
): StateField[] {
  const fields = Object.entries(after).map(([name, value]): StateField => {
    if (before === undefined) return { name, value, change: undefined };
    if (!(name in before)) return { name, value, change: "added" };
    const isSame = JSON.stringify(before[name]) === JSON.stringify(value);
    return { name, value, change: isSame ? undefined : "changed" };
  });
  const gone = Object.keys(before ?? {}).filter((name) => !(name in after));
  const removed = gone.map((name): StateField => ({ name, value: null, change: "removed" }));
  const all = [...fields, ...removed];
  const hasChanged = ({ change }: StateField) => change !== undefined;
  return [...all.filter(hasChanged), ...all.filter((field) => !hasChanged(field))];
}
