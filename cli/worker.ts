import { spawn } from "node:child_process";
import { join, resolve } from "node:path";
import { defineCommand, noMoreWords } from "./command.ts";
import { CommandError } from "./stage.ts";

const rankProgram = join(import.meta.dirname, "..", "dataplane", "engine", "rank.ts");

export const workerCommand = defineCommand({
  help: `axon worker --rank N --leader HOST:PORT --model PATH

Lends this machine to a tensor-parallel group that another machine leads: it holds a shard of every
weight and of the KV cache, and follows the leader's steps. When the group ends it waits for the next.

  --rank N            which one, from 1 to the number of ranks - 1
  --leader HOST:PORT  where the leader listens
  --model PATH        the same checkpoint that the leader has
  AXON_GROUP_SECRET   what the leader knows too, 16 characters or more

The leader is the stage of the other machine:

  AXON_TRANSPORT=remote AXON_LISTEN=0.0.0.0:7010 AXON_GROUP_SECRET=… npm start -- --tp 2

Traffic between ranks is neither signed nor encrypted: keep it on a private network.
`,
  options: { rank: { type: "string" }, leader: { type: "string" }, model: { type: "string" } },
  async run(words, options) {
    noMoreWords("worker", words);
    return worker(options);
  },
});

/** Runs a rank until it is stopped. Returns its exit code. @throws CommandError for wrong options */
async function worker(options: {
  rank?: string | undefined;
  leader?: string | undefined;
  model?: string | undefined;
}): Promise<number> {
  const { rank, leader, model } = options;
  if (rank === undefined || leader === undefined || model === undefined) {
    throw new CommandError("--rank, --leader and --model are needed. Try axon worker --help.", {
      exitCode: 2,
    });
  }
  if ((process.env["AXON_GROUP_SECRET"] ?? "").length < 16) {
    throw new CommandError("AXON_GROUP_SECRET has to have 16 characters or more.", { exitCode: 2 });
  }
  const args = ["--rank", rank, "--leader", leader, "--model", resolve(model), "--rejoin"];
  const child = spawn(process.execPath, [rankProgram, ...args], { stdio: "inherit" });
  const stop = () => void child.kill("SIGTERM");
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  return new Promise((done) => {
    child.on("exit", (code, signal) => done(signal === "SIGTERM" ? 0 : (code ?? 1)));
  });
}
