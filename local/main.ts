import { enableCompileCache } from "node:module";
import { join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { killRecorded } from "./data-folder.ts";
import { findModel } from "./model-store/find-model.ts";
import { StageError } from "./part.ts";
import { compileCacheDir, root } from "./paths.ts";
import type { StagePart } from "./roster.ts";
import type { Stage, StageOptions } from "./stage.ts";

const help = `
npm start -- [options]: the whole of Axon on this machine, and a page to chat with it.

  --data DIR    where data and logs are kept (default AXON_DATA, which \`npx axon\` follows, too, or .axon)
  --model M     a folder or .gguf file with a Llama model, or one of those that
                \`npx axon models list\` shows (default axon-guide)
  --tp N        ranks that the weights are split over (default 2)
  --groups N    groups that serve the model when it is new here, each with a copy of it (default 1);
                later its rollouts say how many
  --relays N    relays that carry the token streams (default 1)
  --front-door  the first relay terminates WebSockets itself, without the gateway
  --help        this text

By the environment:
  PORT             of the page and the API (default 4173)
  AXON_HOST        address to listen on (default 127.0.0.1)
  AXON_API_KEYS    more keys: [{"sha256":"…","tenantId":"a","userId":"b"}], hashes of the keys
  REDIS_URL, DATABASE_URL, AWS_ENDPOINT_URL_SQS, AWS_ENDPOINT_URL_DYNAMODB
                   a server to use instead of one of ours
  AXON_ENGINE=vllm AXON_ENGINE_URL=http://127.0.0.1:8000
                   a vLLM server computes, with its own model. AXON_ENGINE=openai: any server with
                   OpenAI's API, and --model for the tokenizer. docs/ENGINES.md
  AXON_WEIGHTS, AXON_TRANSPORT, AXON_SLOTS, AXON_CONTEXT_TOKENS, AXON_CACHE_MIB, AXON_ABANDON_MS,
  AXON_MS_PER_TOKEN
                   of the engine: node dataplane/worker.ts --help explains them
  AXON_TENANT_IN_FLIGHT, AXON_TENANT_WEIGHTS, AXON_MAX_WAIT_MS, AXON_RATE_PER_MINUTE, AXON_RATE_BURST
                   who may ask for how much: docs/ARCHITECTURE.md, "Admission"
  AXON_SETTLE_MS   for so long after a rollout has moved the traffic a handler may still be at work that
                   has not heard of it (default 35000, above what the gateway waits)
  AXON_METRICS_PORT
                   GET /targets at this port of this machine tells Prometheus where to read the metrics of
                   relays and groups: docs/OBSERVABILITY.md
  LOG_LEVEL        DEBUG, INFO, WARN or ERROR, for the logs in the data folder

Ctrl-C stops everything; once more, at once.
`;

/** @returns undefined when only the help was asked for. @throws StageError invalid_option */
function readOptions(): StageOptions | undefined {
  try {
    const { values } = parseArgs({
      options: {
        data: { type: "string", default: process.env["AXON_DATA"] || ".axon" },
        model: { type: "string" },
        tp: { type: "string", default: "2" },
        groups: { type: "string", default: "1" },
        relays: { type: "string", default: "1" },
        "front-door": { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    });
    if (values.help) return undefined;
    const port = portOf("PORT") ?? 4173;
    const metricsPort = portOf("AXON_METRICS_PORT");
    return {
      dataDir: values.data,
      port,
      ranks: countOf("tp", values.tp),
      groups: countOf("groups", values.groups),
      relays: countOf("relays", values.relays),
      frontDoor: values["front-door"],
      host: process.env["AXON_HOST"] ?? "127.0.0.1",
      ...(metricsPort !== undefined && { metricsPort }),
      ...(values.model !== undefined && { modelDir: findModel(values.model) }),
      note: (line) => console.log(`! ${line}`),
    };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new StageError("invalid_option", `${why}. See: npm start -- --help`, cause);
  }
}

function portOf(variable: string): number | undefined {
  const text = process.env[variable];
  if (text === undefined || text === "") return undefined;
  const port = Number(text);
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port;
  throw new Error(`${variable}=${text} is no port: 0 to 65535`);
}

function countOf(option: string, text: string): number {
  if (!/^[1-9]\d?$/.test(text)) throw new Error(`--${option} ${text}: use 1, 2, 3 …`);
  return Number(text);
}

function print({ url, credential, model, parts, targetsUrl }: Stage, options: StageOptions): void {
  for (const part of parts()) console.log(lineOf(part));
  if (targetsUrl !== undefined) console.log(`  ${"metrics".padEnd(14)} ${targetsUrl}`);
  const address = url.replace("//127.0.0.1", "//localhost");
  const inside = relative("", options.dataDir);
  const folder = inside.startsWith("..") ? resolve(options.dataDir) : inside;
  // The command line looks in its own place otherwise.
  const axon =
    resolve(folder) === join(root, ".axon") ? "npx axon" : `AXON_DATA=${folder} npx axon`;
  console.log(`
  ${address}         the page; it talks to ${model.model}
  ${address}/#/ops   how all of it is, and what to do about it
  ${address}/v1      OpenAI's API, with the key ${credential}; docs/OPENAI.md

  ${axon} chat "What is tensor parallelism?"
  ${axon} status

ready in ${(performance.now() / 1_000).toFixed(1)} s; logs are in ${join(folder, "logs")}, Ctrl-C stops it`);
}

function lineOf({ name, address, pid, ranks = [] }: StagePart): string {
  const who = pid === undefined ? "not ours" : `pid ${pid}`;
  const others = ranks.filter((rank) => rank.pid !== pid);
  const threads = ranks.length - others.length;
  const more = [
    ...(threads > 1 ? [`${threads} ranks in it`] : []),
    ...others.map((rank) => `rank ${rank.rank} pid ${rank.pid}`),
  ];
  return `  ${name.padEnd(14)} ${address.padEnd(34)} ${[who, ...more].join(", ")}`;
}

function fail(error: unknown): never {
  if (error instanceof StageError) console.error(`\n${error.message}`);
  else console.error(error);
  process.exit(1);
}

/** npm hands a Ctrl-C on that its child has had from the terminal already: both come within milliseconds. */
const onePressMs = 300;

async function run(options: StageOptions): Promise<void> {
  console.log(`Axon starts; its data is in ${options.dataDir}`);
  // What is imported from here on is compiled once and not at every start.
  enableCompileCache(compileCacheDir);
  const starting = import("./stage.ts").then(({ startStage }) => startStage(options));
  let stopping = false;
  let askedAt = Number.NEGATIVE_INFINITY;
  const end = () => {
    const isSamePress = performance.now() - askedAt < onePressMs;
    askedAt = performance.now();
    if (isSamePress) return;
    if (stopping) {
      console.log("stops at once");
      killRecorded(options.dataDir);
      process.exit(1);
    }
    stopping = true;
    console.log("\nstops; Ctrl-C once more does not wait");
    starting.then((stage) => stage.stop()).then(() => process.exit(0), fail);
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, end);
  const stage = await starting;
  if (!stopping) print(stage, options);
}

try {
  const options = readOptions();
  if (options === undefined) console.log(help.trim());
  else await run(options);
} catch (error) {
  fail(error);
}
