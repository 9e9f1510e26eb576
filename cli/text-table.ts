/** Rows under a header, in columns as wide as they have to be. Numbers stand to the right. */
export function textTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  isNumber: readonly boolean[],
): string[] {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  return all.map((row) => {
    const cells = row.map((cell, column) => {
      const width = widths[column] ?? 0;
      return isNumber[column] ? cell.padStart(width) : cell.padEnd(width);
    });
    return cells.join("  ").trimEnd();
  });
}
