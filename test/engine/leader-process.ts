import { startEmbeddedEngine } from "../../dataplane/engine/embedded.ts";

/** A leader to be killed: starts an engine on two ranks, and prints the health as JSON when ready. */
const engine = await startEmbeddedEngine({
  modelDir: process.argv[2] ?? "",
  ranks: 2,
  transport: "tcp",
  slots: 1,
  tokensPerStep: 8,
});
process.stdout.write(`${JSON.stringify(engine.health())}\n`);
