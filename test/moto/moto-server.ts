import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../../local/part.ts";
import { eventually } from "../support/eventually.ts";

/** A second implementation of AWS, in Python: https://docs.getmoto.org */
const version = "5.2.5";
/** Python's environment with moto in it. */
export const motoFolder = join(import.meta.dirname, "..", "..", ".axon", "moto");

function installMoto(): void {
  if (existsSync(join(motoFolder, "bin", "moto_server"))) return;
  console.info(`moto ${version} is installed under .axon/moto.`);
  execFileSync("python3", ["-m", "venv", motoFolder], { stdio: "inherit" });
  const pip = join(motoFolder, "bin", "pip");
  execFileSync(pip, ["install", "--quiet", `moto[server]==${version}`], { stdio: "inherit" });
}

export async function startMoto(): Promise<{ url: string; stop(): Promise<void> }> {
  installMoto();
  const port = await freePort();
  const server = spawn(
    join(motoFolder, "bin", "moto_server"),
    ["-H", "127.0.0.1", "-p", String(port)],
    { stdio: "ignore" },
  );
  const exited = once(server, "exit");
  const url = `http://127.0.0.1:${port}`;
  await eventually(async () => (await fetch(`${url}/moto-api/data.json`)).ok, 60_000);
  return {
    url,
    async stop() {
      server.kill("SIGTERM");
      await exited;
    },
  };
}
