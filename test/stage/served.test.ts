import { bundledModelDir } from "../engine/engine.contract.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { servedStageSuite } from "./served-stage.ts";

let server: ModelServer;

servedStageSuite("a server that speaks as vLLM does", {
  prompt: "Tell me a story about a lighthouse.",
  patienceMs: 60_000,
  async start() {
    server = await startModelServer(bundledModelDir, { msPerToken: 20, weights: "int8" });
    return {
      env: { AXON_ENGINE: "vllm", AXON_ENGINE_URL: server.url },
      running: async () => server.running(),
      kill: () => server.kill(),
      restart: () => server.listen(),
    };
  },
  stop: () => server.close(),
});
