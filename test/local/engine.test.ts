import { afterAll, beforeAll, expect, test } from "vitest";
import { workerConfig } from "../../dataplane/config.ts";
import { stageEngine } from "../../local/engine.ts";
import { bundledModelDir } from "../engine/engine.contract.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";

/** Which engine a stage and its groups have, by their environment. */

let server: ModelServer;
beforeAll(async () => {
  server = await startModelServer(bundledModelDir);
});
afterAll(() => server.close());

test("is ours, where nothing else is said", async () => {
  const { model, env } = await stageEngine(bundledModelDir, 2, {});
  expect(model).toMatchObject({ model: "axon-guide", contextTokens: 1_024 });
  expect(env).toEqual({ AXON_MODEL_DIR: bundledModelDir, AXON_TP: "2" });
});

test("is a vLLM server, whose model is described by the server", async () => {
  const asked = { AXON_ENGINE: "vllm", AXON_ENGINE_URL: `${server.url}/v1/` };
  const { model, env } = await stageEngine("/nowhere", 2, asked);
  expect(model).toMatchObject({ model: "axon-guide", contextTokens: 1_024 });
  expect(model.revision).toMatch(/^axon-guide-[0-9a-f]{12}$/);
  expect(env).toEqual({ AXON_TP: "1" });
  const shorter = await stageEngine("/nowhere", 2, { ...asked, AXON_CONTEXT_TOKENS: "500" });
  expect(shorter.model).toMatchObject({ contextTokens: 500, revision: model.revision });
});

test("is a server of text, whose tokenizer is here", async () => {
  const asked = { AXON_ENGINE: "openai", AXON_ENGINE_URL: server.url };
  const { env } = await stageEngine(bundledModelDir, 2, asked);
  expect(env).toEqual({
    ...{ AXON_MODEL_DIR: bundledModelDir, AXON_CONTEXT_TOKENS: "1024", AXON_TP: "1" },
  });
});

test.each([
  ["an engine that there is not", { AXON_ENGINE: "tgi" }, "invalid_option"],
  ["a server without an address", { AXON_ENGINE: "vllm" }, "invalid_option"],
  [
    "an address where nobody is",
    { AXON_ENGINE: "vllm", AXON_ENGINE_URL: "http://127.0.0.1:1" },
    "engine_missing",
  ],
])("is refused: %s", async (_, env, code) => {
  await expect(stageEngine(bundledModelDir, 2, env)).rejects.toMatchObject({ code });
});

test("a worker needs what its engine needs", () => {
  const common = {
    ...{ REDIS_URL: "redis://127.0.0.1", AXON_REVISION: "r" },
    AXON_JOBS_QUEUE_URL: "http://127.0.0.1/jobs",
    AXON_JOBS_DEAD_QUEUE_URL: "http://127.0.0.1/dead",
    AXON_REPORTS_QUEUE_URL: "http://127.0.0.1/reports",
  };
  const url = "http://127.0.0.1:8000";
  expect(() => workerConfig(common)).toThrow("AXON_MODEL_DIR");
  expect(() => workerConfig({ ...common, AXON_ENGINE: "vllm" })).toThrow("AXON_ENGINE_URL");
  const openai = { ...common, AXON_ENGINE: "openai", AXON_ENGINE_URL: url };
  expect(() => workerConfig(openai)).toThrow("AXON_MODEL_DIR");
  const vllm = { ...common, AXON_ENGINE: "vllm", AXON_ENGINE_URL: url };
  expect(workerConfig(vllm)).toMatchObject({ AXON_ENGINE: "vllm" });
});
