import { startEmbeddedEngine } from "../../dataplane/engine/embedded.ts";
import { bundledModelDir, engineContract } from "./engine.contract.ts";

engineContract("the embedded engine", {
  speaks: "ids",
  isExact: true,
  start: (options) =>
    startEmbeddedEngine({
      modelDir: bundledModelDir,
      ...{ ranks: 2, transport: "threads", tokensPerStep: 64, weights: "f32" },
      ...options,
    }),
});
