import { mkdtemp, rm } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { root } from "../local/paths.ts";
import { startRedis } from "../local/redis.ts";
import { quantile, table } from "./statistics.ts";
import { type Load, type Path, type Result, runLoad } from "./stream/load.ts";
import { installSocketIo, peerName } from "./stream/socket-io.ts";
import { measureTakeover } from "./stream/takeover.ts";

const usage = `npm run bench:stream -- [options]

Measures the way of a token from an engine that computes nothing to a client's socket, through the real
leader, Redis and relay, and through Socket.IO with its Redis Streams adapter. Everything, the readers
too, runs on this machine. Prints tables in Markdown.

  --quick         shorter, and without the largest load
  --rounds N      rounds that take turns (default 3, or 1 with --quick); medians count
  --help`;

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    rounds: { type: "string" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(usage);
  process.exit(0);
}
const rounds = Number(values.rounds ?? (values.quick ? 1 : 3));
const seconds = values.quick ? 5 : 10;

const hundred: Load = { turns: 100, tokensPerSecond: 50, connections: 100, seconds };
const calm: Load = { turns: 100, tokensPerSecond: 25, connections: 100, seconds };
const large: Load = { turns: 1_000, tokensPerSecond: 50, connections: 10_000, seconds };

const measurements: { path: Path; load: Load }[] = [
  { path: "door", load: hundred },
  { path: "socket.io", load: hundred },
  { path: "callbacks", load: calm },
  { path: "socket.io", load: calm },
  ...(values.quick
    ? []
    : ([
        { path: "door", load: large },
        { path: "socket.io", load: large },
      ] as const)),
];

const names: Record<Path, string> = {
  door: "relay's own door",
  callbacks: "@connections callbacks",
  "socket.io": peerName,
};

const folder = await mkdtemp(join(tmpdir(), "axon-bench-"));
const redis = await startRedis({
  ...{ dataDir: join(folder, "redis"), logFile: join(folder, "redis.log"), persistent: true },
});
try {
  const peerDir = installSocketIo(join(root, ".axon", "bench"));
  const results = measurements.map(() => [] as Result[]);
  for (let round = 0; round < rounds; round++) {
    for (const [i, { path, load }] of measurements.entries()) {
      if (path === "socket.io" && peerDir === undefined) continue;
      console.error(`round ${round + 1} of ${rounds}: ${load.turns} turns, ${names[path]}`);
      const result = await runOnce(path, load, peerDir);
      if (result !== undefined) results[i]?.push(result);
      await sleep(500);
    }
  }
  const takeovers = await measureTakeover({ redisUrl: redis.url, rounds: values.quick ? 2 : 8 });
  print(results, takeovers);
} finally {
  await redis.stop();
  await rm(folder, { recursive: true, force: true });
}

/** @returns undefined where the peer did not live through it. */
async function runOnce(
  path: Path,
  load: Load,
  peerDir: string | undefined,
): Promise<Result | undefined> {
  try {
    const result = await runLoad(path, load, { redisUrl: redis.url, folder, peerDir });
    console.error(JSON.stringify(result));
    return result;
  } catch (error) {
    if (path !== "socket.io") throw error;
    console.error(`${names[path]} gave out: ${error}`);
    return undefined;
  }
}

function middle(values: readonly number[]): number {
  return quantile(values, 0.5);
}

function print(results: readonly Result[][], takeoverMs: readonly number[]): void {
  const [cpu] = cpus();
  console.log(
    `${cpus().length} × ${cpu?.model}, Node ${process.version}; medians of ${rounds} rounds\n`,
  );
  const rows = measurements.map(({ path, load }, i) => {
    const own = results[i] ?? [];
    const of = (pick: (result: Result) => number, digits = 1) =>
      middle(own.map(pick)).toFixed(digits);
    return [
      `${load.turns} × ${load.tokensPerSecond}/s, ${load.connections} open`,
      own.length === rounds ? names[path] : `${names[path]} (${own.length} of ${rounds} rounds)`,
      `${of((r) => r.firstMs.p50)} / ${of((r) => r.firstMs.p99)}`,
      `${of((r) => r.tokenMs.p50)} / ${of((r) => r.tokenMs.p99)}`,
      of((r) => r.deliveredPerSecond, 0),
      `${of((r) => r.deliveredShare * 100)} %`,
      of((r) => r.framesPerThousand, 0),
      of((r) => r.tokensPerDoorCpuSecond, 0),
      of((r) => r.tokensPerLeaderCpuSecond, 0),
      of((r) => r.gaps, 0),
    ];
  });
  const head = [
    ...["load", "path", "first token, ms (p50 / p99)", "token, ms (p50 / p99)", "tokens/s"],
    ...["delivered", "frames per 1,000 tokens", "tokens per second of the door's processor"],
    ...["of the leader's", "gaps"],
  ];
  console.log(table(head, rows));
  const [p50, p99] = [quantile(takeoverMs, 0.5), quantile(takeoverMs, 0.99)];
  console.log(
    `\nA leader is killed: its turns say their next token after ${p50.toFixed(0)} ms (p50), ` +
      `${p99.toFixed(0)} ms (p99), of ${takeoverMs.length} turns.`,
  );
}
