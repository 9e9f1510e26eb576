import { readdirSync, readFileSync, realpathSync } from "node:fs";
import { join, resolve, sep } from "node:path";
import { identify } from "../process-table.ts";

/**
 * The pids of this user's groups and ranks that run with the model at `path`. A stage's own note
 * (stage.json) would not do: it lies in a data folder that may be anywhere, and names no model.
 * Leaders are known by AXON_MODEL_DIR, ranks by --model. Needs Linux's /proc.
 */
export function processesWithModel(path: string): number[] {
  const wanted = realPath(path);
  const pids = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
  return pids.filter((pid) => {
    const used = pid === process.pid ? undefined : modelOf(pid);
    return used !== undefined && `${realPath(used)}${sep}`.startsWith(wanted + sep);
  });
}

function modelOf(pid: number): string | undefined {
  const command = listOf(pid, "cmdline");
  const isOurs = command.some((part) => /dataplane\/(worker|engine\/rank)\.ts$/.test(part));
  if (!isOurs || identify(pid) === undefined) return undefined;
  const option = command.indexOf("--model");
  const named = option === -1 ? undefined : command[option + 1];
  const variable = listOf(pid, "environ").find((entry) => entry.startsWith("AXON_MODEL_DIR="));
  const model = named ?? variable?.slice("AXON_MODEL_DIR=".length);
  return model === undefined ? undefined : resolve(join("/proc", String(pid), "cwd"), model);
}

/** What the kernel keeps with zeros between; nothing of a process of another user. */
function listOf(pid: number, what: "cmdline" | "environ"): string[] {
  try {
    return readFileSync(`/proc/${pid}/${what}`, "utf8").split("\0");
  } catch {
    return [];
  }
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return resolve(path);
  }
}
