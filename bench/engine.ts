import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pagePositions, pagesFor } from "../dataplane/engine/model/page-layout.ts";
import { keyValueCopies } from "../dataplane/engine/model/shard.ts";
import { type BenchModel, prepareModel } from "./engine/bench-models.ts";
import { type BenchOptions, readOptions, usage } from "./engine/bench-options.ts";
import {
  buildLlamaPeer,
  buildReadBandwidth,
  installNodeLlama,
  type LlamaInstall,
  NotMeasured,
} from "./engine/llama-install.ts";
import { weightBytesPerToken } from "./engine/model-tensors.ts";
import { killPeers, PeerProcess, type PeerProgram } from "./engine/peer-process.ts";
import { measureReadBandwidth } from "./engine/read-bandwidth.ts";
import { writeReport } from "./engine/report.ts";
import { decodePromptLength, measureRounds, warmUpBatch } from "./engine/rounds.ts";
import { median } from "./statistics.ts";

/** The embedded engine beside llama.cpp. See `usage`. */

const benchDir = join(import.meta.dirname, "..", ".axon", "bench");
const axonPeer = fileURLToPath(new URL("./engine/axon-peer.ts", import.meta.url));
const nodeLlamaPeer = fileURLToPath(new URL("./engine/node-llama-peer.ts", import.meta.url));

/** Runs `attempt`; what cannot be measured goes to `missing`, with the reason. */
function attempt<T>(what: string, missing: string[], make: () => T): T | undefined {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof NotMeasured)) throw error;
    missing.push(`${what}: ${error.message}.`);
    return undefined;
  }
}

function axonProgram(model: BenchModel, ranks: number, tokensPerStep: number): PeerProgram {
  const args = [model.checkpointDir, ranks, warmUpBatch, tokensPerStep].map(String);
  return {
    name: ranks === 1 ? "Axon, 1 rank" : `Axon, ${ranks} ranks`,
    file: process.execPath,
    args: [axonPeer, ...args],
  };
}

function llamaPrograms(
  install: LlamaInstall,
  { ggufPath }: BenchModel,
  threads: number,
  missing: string[],
): PeerProgram[] {
  const peer = attempt("llama.cpp's library", missing, () => buildLlamaPeer(install, benchDir));
  const nodeLlama = {
    name: `node-llama-cpp ${install.version}`,
    file: process.execPath,
    args: [nodeLlamaPeer, install.packageDir, ggufPath, String(threads)],
  };
  if (peer === undefined) return [nodeLlama];
  const args = [install.librariesDir, ggufPath, String(threads)];
  return [{ name: `llama.cpp ${install.release}`, file: peer, args }, nodeLlama];
}

/** Those that load their model here; the others go to `missing`. */
async function working(programs: readonly PeerProgram[], missing: string[]) {
  const found: PeerProgram[] = [];
  for (const program of programs) {
    try {
      const { peer } = await PeerProcess.start(program);
      await peer.close();
      found.push(program);
    } catch (error) {
      missing.push(error instanceof Error ? error.message : String(error));
    }
  }
  return found;
}

/** In bytes a second: of each measurement the better of two means, of all of them the median. */
function bandwidthMeter(threads: number, missing: string[]) {
  const native = attempt("memory read by native code", missing, () => buildReadBandwidth(benchDir));
  const rates: number[] = [];
  return {
    median: () => median(rates),
    async measure() {
      const found = [await measureReadBandwidth(threads)];
      if (native !== undefined) found.push(Number(execFileSync(native, [String(threads)])));
      rates.push(Math.max(...found));
    },
  };
}

function expectedBytes({ config }: BenchModel, { ranks, decodeTokens }: BenchOptions) {
  const positionFloats = 2 * config.layers * keyValueCopies(config, ranks) * config.headSize;
  const pages = warmUpBatch * pagesFor(decodePromptLength + decodeTokens);
  return {
    weights: weightBytesPerToken(config),
    pages: pages * pagePositions * positionFloats * 4,
  };
}

async function main(options: BenchOptions): Promise<void> {
  const { rounds, samples, ranks, tokensPerStep, batches, promptLengths, decodeTokens } = options;
  const missing: string[] = [];
  const modelsDir = join(benchDir, "models");
  mkdirSync(modelsDir, { recursive: true });
  const model = await prepareModel(modelsDir, options.sourcePath);
  const install = attempt("llama.cpp", missing, () => installNodeLlama(benchDir));
  const ours = [...new Set([ranks, 1])].map((count) => axonProgram(model, count, tokensPerStep));
  const theirs = install
    ? await working(llamaPrograms(install, model, ranks, missing), missing)
    : [];
  const bandwidth = bandwidthMeter(ranks, missing);
  const results = await measureRounds([...ours, ...theirs], {
    ...{ rounds, samples, batches, promptLengths, decodeTokens },
    vocabularySize: model.config.vocabularySize,
    betweenRounds: () => bandwidth.measure(),
  });
  const report = {
    conditions: [
      `${cpus().length} × ${cpus()[0]?.model}, Node ${process.version}, ${process.platform}. ` +
        `Model: ${model.name}. ${ranks} ranks and threads, ${tokensPerStep} tokens a step; ` +
        `medians of ${rounds} rounds (least – most).`,
    ],
    ...{ ours, theirs, results, missing },
    readBandwidth: bandwidth.median(),
    weightBytesPerToken: weightBytesPerToken(model.config),
    expectedBytes: expectedBytes(model, options),
  };
  console.log(options.json ? JSON.stringify(plain(report), null, 2) : writeReport(report));
}

/** For JSON: names instead of programs, and values by name. */
function plain(report: Parameters<typeof writeReport>[0]): object {
  const { ours, theirs, results, ...rest } = report;
  const measures = results.measures.map(({ name, unit, values }) => ({
    ...{ name, unit },
    values: Object.fromEntries([...values].map(([program, all]) => [program.name, all])),
  }));
  const names = (programs: readonly PeerProgram[]) => programs.map(({ name }) => name);
  const { agreeing, compared, busyShare } = results;
  const engines = { ours: names(ours), theirs: names(theirs) };
  return { ...rest, ...engines, measures, agreeing, compared, busyShare };
}

for (const [signal, status] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const) {
  process.once(signal, () => {
    killPeers();
    process.exit(status);
  });
}

try {
  const options = readOptions(process.argv.slice(2), process.env);
  if (options === undefined) console.log(usage);
  else await main(options);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  killPeers();
}
