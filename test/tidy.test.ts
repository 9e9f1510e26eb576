import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, test } from "vitest";

/** Taste, enforced: what a reader may rely on without looking. */

const root = resolve(import.meta.dirname, "..");
const skipped = new Set(["node_modules", "dist", ".git", ".axon", ".sst", "coverage"]);

function filesUnder(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    if (skipped.has(entry.name)) return [];
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesUnder(path) : [path];
  });
}

const sources = filesUnder(".").filter((path) => /\.(ts|tsx|mjs)$/.test(path));
const folders = readdirSync(root, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && !entry.name.startsWith(".") && !skipped.has(entry.name))
  .map((entry) => entry.name);

/** What each area may import of the repository, beside itself. The longest matching prefix rules. */
const importRule: Record<string, string[]> = {
  events: [],
  cluster: ["events"],
  functions: ["events", "cluster"],
  stacks: [
    ...["cluster", "axon.config.ts", "events/event-log.ts", "events/event-log-dynamodb.ts"],
    ...["events/data-keys-dynamodb.ts", "events/function-metrics.ts", "events/objectives.ts"],
  ],
  dataplane: ["events"],
  "dataplane/engine": [],
  client: ["events/socket-protocol.ts"],
  web: [
    "client",
    "events/frames.ts",
    "events/observations.ts",
    "events/socket-protocol.ts",
    "events/views.ts",
  ],
  cli: [
    "client",
    "events",
    "cluster",
    "axon.config.ts",
    "local/model-store",
    "dataplane/engine/checkpoint",
  ],
};
/** Composition roots and measurements may import anything, and nothing imports them. */
const roots = ["local", "bench", "test", "cli"];
/** Areas that may use only Node itself from outside of the repository. */
const withoutPackages = ["dataplane/engine", "client"];
/** But for what a file is there to serve. */
const served: Record<string, string[]> = {
  "client/react.ts": ["react"],
  "client/vite.config.ts": ["vite"],
};
/** Tools of a developer, which nothing runs that is delivered. */
const buildScripts = ["dataplane/engine/kernels/wasm/build.mjs"];

const ruled = Object.keys(importRule).sort((a, b) => b.length - a.length);
const areaOf = (path: string) => ruled.find((area) => path.startsWith(`${area}/`));

function importsOf(path: string): string[] {
  const text = readFileSync(join(root, path), "utf8");
  const pattern =
    /(?:^|\n)\s*(?:import|export)\b[^;"']*?from\s*["']([^"']+)["']|\bimport\s*\(?\s*["']([^"']+)["']/g;
  return [...text.matchAll(pattern)].map((match) => match[1] ?? match[2] ?? "");
}

describe("imports", () => {
  const edges = sources.flatMap((path) =>
    importsOf(path).map((target) => ({
      path,
      target,
      inside: target.startsWith(".")
        ? relative(root, resolve(root, dirname(path), target))
        : undefined,
    })),
  );

  test("are found at all", () => {
    expect(edges.length).toBeGreaterThan(100);
  });

  test("follow the import rule", () => {
    const broken = edges.filter(({ path, inside }) => {
      const area = areaOf(path);
      if (inside === undefined || area === undefined) return false;
      // A nested area is part of its parent for the parent's own imports, not the other way round.
      if (inside.startsWith(`${area}/`)) return false;
      return !(importRule[area] ?? []).some(
        (allowed) => inside === allowed || inside.startsWith(`${allowed}/`),
      );
    });
    expect(broken).toEqual([]);
  });

  test("never reach into a composition root", () => {
    const broken = edges.filter(({ path, inside }) => {
      const target = roots.find((name) => inside?.startsWith(`${name}/`));
      return target !== undefined && !roots.some((name) => path.startsWith(`${name}/`));
    });
    expect(broken).toEqual([]);
  });

  test("bring no package where there should be none", () => {
    const broken = edges.filter(
      ({ path, target, inside }) =>
        inside === undefined &&
        !target.startsWith("node:") &&
        !buildScripts.includes(path) &&
        !(served[path] ?? []).includes(target) &&
        withoutPackages.some((area) => path.startsWith(`${area}/`)),
    );
    expect(broken).toEqual([]);
  });
});

describe("files", () => {
  test("each folder has its line in the README", () => {
    const readme = readFileSync(join(root, "README.md"), "utf8");
    expect(folders.filter((name) => !readme.includes(`\`${name}/\``))).toEqual([]);
  });

  test("none is a grab bag", () => {
    const names = sources.filter((path) =>
      /(^|\/)(utils?|helpers?|common|misc|index)\.[a-z]+$/.test(path),
    );
    expect(names).toEqual([]);
  });

  test("links in the documents lead somewhere", () => {
    const documents = filesUnder(".").filter((path) => path.endsWith(".md"));
    const broken = documents.flatMap((path) => {
      const text = readFileSync(join(root, path), "utf8");
      return [...text.matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)]
        .map((match) => match[1] ?? "")
        .filter((target) => !existsSync(resolve(root, dirname(path), target)))
        .map((target) => `${path} → ${target}`);
    });
    expect(broken).toEqual([]);
  });

  test("each Lua script states its guarantee, its KEYS and its ARGV", () => {
    const scripts = filesUnder(".").filter((path) => path.endsWith(".lua"));
    const silent = scripts.filter((path) => {
      const head = readFileSync(join(root, path), "utf8").split(/\n(?!--)/)[0] ?? "";
      return !/Guarantee/.test(head) || !/KEYS/.test(head) || !/ARGV/.test(head);
    });
    expect(silent).toEqual([]);
  });
});

describe("functions", () => {
  /** Lines from a declaration to the brace that closes it, at the same indentation. */
  function longFunctions(path: string): string[] {
    const lines = readFileSync(join(root, path), "utf8").split("\n");
    const found: string[] = [];
    lines.forEach((line, start) => {
      const head =
        /^(\s*)(?:export )?(?:async )?function\*? (\w+)|^(\s*)(?:async )?(\w+)\(.*\{$/.exec(line);
      if (head === null) return;
      const indent = head[1] ?? head[3] ?? "";
      const name = head[2] ?? head[4] ?? "";
      if (["if", "for", "while", "switch", "describe", "test", "return"].includes(name)) return;
      const length = lines
        .slice(start)
        .findIndex((other, i) => i > 0 && other.startsWith(`${indent}}`));
      if (length > 70) found.push(`${path}:${start + 1} ${name} has ${length + 1} lines`);
    });
    return found;
  }

  test("are read in one sitting", () => {
    // A kernel whose inner loop is unrolled by hand is as long as the loop.
    const unrolled = ["dataplane/engine/kernels/wasm/int8-matrix.as.ts"];
    const product = sources.filter((path) => !path.startsWith("test/") && !unrolled.includes(path));
    expect(product.flatMap(longFunctions)).toEqual([]);
  });
});
