/**
 * A document whose tables are a program's: each stands between `<!-- table NAME -->` and `<!-- end -->`.
 * @throws Error when the document has no place for a table, or a place for one that there is not.
 */
export function withTables(document: string, tables: Readonly<Record<string, string>>): string {
  const placed = new Set<string>();
  const filled = document.replace(
    /<!-- table (\S+) -->[\s\S]*?<!-- end -->/g,
    (_, name: string) => {
      const table = tables[name];
      if (table === undefined) throw new Error(`There is no table "${name}".`);
      placed.add(name);
      return `<!-- table ${name} -->\n\n${table}\n\n<!-- end -->`;
    },
  );
  const missing = Object.keys(tables).filter((name) => !placed.has(name));
  if (missing.length > 0) throw new Error(`The document has no place for ${missing.join(", ")}.`);
  return filled;
}
