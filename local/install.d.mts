/** What TypeScript has to know of install.mjs, which is plain JavaScript and says the rest itself. */
export function packagesAreStale(lockFile: string, installed: string | undefined): boolean;
export function pageIsStale(builtAtMs: number | undefined, sourcesAtMs: readonly number[]): boolean;
export function wayToPackage(found: {
  named: boolean;
  onPath: boolean;
  unpacked: boolean;
  apt: boolean;
  root: boolean;
}): "present" | "install" | "unpack" | "impossible";
