import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startLambdaApi } from "../../local/lambda-api.ts";
import type { LambdaFunction } from "../../local/lambda-context.ts";
import { freePort } from "../../local/part.ts";

/** What `axon` has left when it was run as a process of its own. */
export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

/** For who runs it in a way of its own. */
export const axonProgram = join(import.meta.dirname, "..", "..", "cli", "main.ts");

/** Runs `axon` with these words. `env` goes before this process's own. */
export function runAxon(words: readonly string[], env: NodeJS.ProcessEnv): Promise<Ran> {
  return new Promise((resolve) => {
    const options = { env: { ...process.env, ...env } };
    execFile(process.execPath, [axonProgram, ...words], options, (error, ...out) => {
      const [stdout, stderr] = out.map(String) as [string, string];
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

/** A stage as `axon` finds it: the data folder that AXON_DATA names, and functions behind Lambda's API. */
export interface InvokedStage {
  /** The data folder. */
  folder: string;
  /** Of Lambda's API. */
  endpoint: string;
  stop(): Promise<void>;
}

/** Makes these functions, by name, those that the command line invokes. */
export async function invokedStage(
  functions: Readonly<Record<string, LambdaFunction<unknown>>>,
): Promise<InvokedStage> {
  const folder = mkdtempSync(join(tmpdir(), "axon-command-"));
  const port = (await freePort()) ?? 0;
  const api = await startLambdaApi(functions, { port, accessKeyId: "local", timeoutMs: 20_000 });
  const endpoint = `http://127.0.0.1:${port}`;
  const stage = { functions: { endpoint, emulated: true } };
  writeFileSync(join(folder, "stage.json"), JSON.stringify(stage));
  async function stop(): Promise<void> {
    await api.stop();
    rmSync(folder, { recursive: true });
  }
  return { folder, endpoint, stop };
}
