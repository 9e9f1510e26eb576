import { expect, test } from "vitest";
import { readLoad } from "../../dataplane/openai/metrics.ts";

test("the load of a vLLM server with two engines is that of both", () => {
  const text = `# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a b"} 3.0
vllm:num_requests_running{engine="1",model_name="a b"} 2.0
vllm:num_requests_waiting{engine="0",model_name="a b"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="a b",reason="capacity"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="a b"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="a b"} 0.5
vllm:iteration_tokens_total_bucket{engine="0",le="1.0",model_name="a b"} 7.0
vllm:iteration_tokens_total_count{engine="0",model_name="a b"} 2.9e+01
vllm:cache_config_info{block_size="128",engine="0",num_gpu_blocks="1638"} 1.0
`;
  expect(readLoad(text)).toEqual({
    ...{ runningRequests: 5, waitingRequests: 1, cacheUse: 0.5, cachePages: 1_638, steps: 29 },
    ...{ reusedTokens: 0, preemptions: 0 },
  });
});

test("a server that counts no steps has none, and llama.cpp's have other names", () => {
  expect(readLoad("sglang:num_running_reqs 2\n")).toMatchObject({
    ...{ runningRequests: 2, steps: undefined },
  });
  const text = "llamacpp:requests_processing 1\nllamacpp:n_decode_total 332\n";
  expect(readLoad(text)).toMatchObject({ runningRequests: 1, steps: 332 });
});
