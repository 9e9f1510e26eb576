import { createHash } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type Client, connect } from "../client/client.ts";
import { startStage } from "../local/stage.ts";
import { quantile, table } from "./statistics.ts";

const usage = `npm run bench:flood -- [options]

What one tenant that floods the stage does to another's time to first token. The flooder keeps many
turns waiting all the time; the other asks one question after another, in rounds with the flood and
without it. The engine is paced, so that it is the way to it that is measured. Prints a table in Markdown.

  --questions N   of the second tenant, in each half of a round (default 30)
  --rounds N      (default 4)
  --help`;

const { values } = parseArgs({
  options: {
    questions: { type: "string", default: "30" },
    rounds: { type: "string", default: "4" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(usage);
  process.exit(0);
}
const questions = Number(values.questions);
const rounds = Number(values.rounds);

const slots = 16;
/** Turns that the flooder has open all the time, of which `tenantInFlight` are in flight. */
const flooding = 100;
const tenantInFlight = 8;
const msPerToken = 20;
const floodTokens = { least: 50, most: 150 };
const keys = { flooder: "key-of-the-flooder", other: "key-of-the-other" };

/** Of any length, as real ones: turns that began together do not end together. */
function floodRequest() {
  const { least, most } = floodTokens;
  const maxTokens = Math.round(least + Math.random() * (most - least));
  return { prompt: "Tell me a long story.", sampling: { maxTokens, temperature: 1.5 } };
}
const question = { prompt: "What is a rank?", sampling: { maxTokens: 8 } };

const dataDir = await mkdtemp(join(tmpdir(), "axon-bench-"));
await chmod(dataDir, 0o755);
const stage = await startStage({
  ...{ dataDir, port: 0, ranks: 1 },
  env: {
    AXON_SLOTS: String(slots),
    AXON_TENANT_IN_FLIGHT: String(tenantInFlight),
    AXON_MS_PER_TOKEN: String(msPerToken),
    AXON_RATE_PER_MINUTE: "100000",
    AXON_RATE_BURST: "1000",
    AXON_MAX_WAIT_MS: "3600000",
  },
  apiKeys: Object.entries(keys).map(([tenantId, key]) => ({
    sha256: createHash("sha256").update(key).digest("hex"),
    ...{ tenantId, userId: tenantId },
  })),
});
const clientOf = (credential: string) =>
  connect({ url: stage.url.replace("http", "ws"), credential });

try {
  const other = clientOf(keys.other);
  await firstTokensOf(other);
  const alone: number[] = [];
  const flooded: number[] = [];
  let floodEnded = 0;
  for (let round = 0; round < rounds; round++) {
    console.error(`round ${round + 1} of ${rounds}`);
    alone.push(...(await firstTokensOf(other)));
    const { stop } = await startFlood();
    flooded.push(...(await firstTokensOf(other)));
    floodEnded += await stop();
  }
  other.close();
  print(alone, flooded, floodEnded);
} finally {
  await stage.stop();
  await rm(dataDir, { recursive: true, force: true });
}

/** @returns times to first token of questions asked one after the other, ms. */
async function firstTokensOf(client: Client): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < questions; i++) {
    const askedAt = performance.now();
    let first: number | undefined;
    for await (const update of client.chat(question)) {
      if (update.type === "text") first ??= performance.now() - askedAt;
    }
    if (first === undefined) throw new Error("An answer had no token.");
    times.push(first);
    // Not in step with the flooder's turns.
    await sleep(Math.random() * 100);
  }
  return times;
}

/** @returns once all of the flooder's turns are accepted. `stop` tells how many of them ended before it. */
async function startFlood(): Promise<{ stop(): Promise<number> }> {
  const client = clientOf(keys.flooder);
  const stopping = new AbortController();
  let accepted = 0;
  let ended = 0;
  const keepAsking = async () => {
    while (!stopping.signal.aborted) {
      for await (const update of client.chat({ ...floodRequest(), signal: stopping.signal })) {
        if (update.type === "accepted") accepted++;
        if (update.type === "done" && update.finishReason !== "cancelled") ended++;
      }
    }
  };
  const asking = Array.from({ length: flooding }, keepAsking);
  while (accepted < flooding) await sleep(50);
  return {
    async stop() {
      const endedBefore = ended;
      stopping.abort();
      await Promise.all(asking);
      client.close();
      return endedBefore;
    },
  };
}

function print(alone: readonly number[], flooded: readonly number[], floodEnded: number): void {
  const [cpu] = cpus();
  console.log(
    `${cpus().length} × ${cpu?.model}, Node ${process.version}; ${slots} slots, a turn at ` +
      `${1_000 / msPerToken} tokens/s; the flooder has ${flooding} turns of ${floodTokens.least} to ${floodTokens.most} tokens open, ` +
      `${tenantInFlight} at most in flight, and ended ${floodEnded} of them meanwhile\n`,
  );
  const row = (name: string, times: readonly number[]) => [
    ...[name, quantile(times, 0.5).toFixed(1), quantile(times, 0.95).toFixed(1)],
    String(times.length),
  ];
  const head = ["the other tenant's first token", "p50, ms", "p95, ms", "questions"];
  console.log(table(head, [row("alone", alone), row("during the flood", flooded)]));
  const rise = (p: number) => (quantile(flooded, p) / quantile(alone, p) - 1) * 100;
  console.log(
    `\nIt rises by ${rise(0.5).toFixed(0)} % (p50) and ${rise(0.95).toFixed(0)} % (p95).`,
  );
}
