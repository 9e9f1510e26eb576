import { servedStageSuite } from "../stage/served-stage.ts";
import { startMs, startVllm, type VllmServer } from "./vllm-server.ts";

let server: VllmServer;

servedStageSuite("vLLM", {
  prompt: "Tell me a story about a lighthouse.",
  patienceMs: startMs,
  async start() {
    server = await startVllm();
    return {
      env: { AXON_ENGINE: "vllm", AXON_ENGINE_URL: server.url, AXON_MS_PER_TOKEN: "30" },
      running: server.running,
      kill: server.kill,
      restart: server.start,
    };
  },
  stop: async () => server?.kill(),
});
