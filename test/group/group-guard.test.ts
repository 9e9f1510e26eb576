import { Logger } from "@aws-lambda-powertools/logger";
import { Redis } from "ioredis";
import { expect, onTestFinished, test } from "vitest";
import type { Engine, EngineHealth } from "../../dataplane/engine/engine.ts";
import { GroupGuard } from "../../dataplane/group-guard.ts";
import { ProgressWatch } from "../../dataplane/progress-watch.ts";
import { tokenStream } from "../../dataplane/token-stream.ts";
import { eventually } from "../support/eventually.ts";
import { freshRedis } from "../support/parts.ts";
import { syntheticEngine } from "../support/synthetic-engine.ts";
import { probe } from "./group-processes.ts";

test("an engine is stuck when turns run and its steps stand still", () => {
  const progress = new ProgressWatch({ stallMs: 3_000, lookMs: 1_000 });
  const look = (steps: number, runningTurns: number) => {
    progress.look({ steps, runningTurns });
    return progress.isStalled;
  };
  expect([look(5, 1), look(5, 1), look(5, 1)]).toEqual([false, false, false]);
  expect(look(5, 1)).toBe(true);
  expect(look(6, 1)).toBe(false);
  expect([look(6, 0), look(6, 0), look(6, 0), look(6, 0)]).not.toContain(true);
});

async function openGuard(env: { AXON_NCCL_LOGS?: string } = {}) {
  const redis = new Redis(await freshRedis(), { maxRetriesPerRequest: null });
  tokenStream(redis);
  const guard = await GroupGuard.open(
    {
      AXON_FOLLOWERS: 0,
      AXON_STALL_MS: 2_000,
      AXON_PROBES: { host: "127.0.0.1", port: 0 },
      AXON_NCCL_LOGS: env.AXON_NCCL_LOGS,
    },
    { redis, groupId: "axon-test-0", logger: new Logger({ logLevel: "SILENT" }) },
  );
  onTestFinished(async () => {
    await guard.close();
    redis.disconnect();
  });
  const ask = (path: string) => probe(`${guard.probesUrl}${path}`);
  return { guard, redis, ask };
}

/** An engine that says of itself what the test says. */
function engineWith(health: Partial<EngineHealth>): Engine {
  const engine = syntheticEngine({ tokens: 1 });
  return { ...engine, health: () => ({ ...engine.health(), ...health }) };
}

test("the probes tell a start, a drain, and an engine that has failed", async () => {
  const { guard, ask } = await openGuard();
  expect(await ask("/ready")).toEqual({ status: 503, body: "the engine starts" });
  expect((await ask("/live")).status).toBe(200);
  expect((await ask("/")).status).toBe(404);
  const engine = syntheticEngine({ tokens: 1 });
  const guarded = await guard.admit(engine);
  await eventually(async () => (await ask("/ready")).status === 200);
  guard.drains();
  expect(await ask("/ready")).toEqual({ status: 503, body: "drains" });
  const failed = new Promise<Error>((resolve) => guarded.onFailure(resolve));
  engine.fail();
  expect(await failed).toMatchObject({ code: "rank_lost" });
  expect(guarded.health().state).toBe("failed");
  expect(await ask("/live")).toEqual({ status: 503, body: "A rank died." });
});

test("/live fails by progress: turns run and no step is made", async () => {
  const { guard, ask } = await openGuard();
  const work = { runningTurns: 1, steps: 7 };
  await guard.admit(engineWith(work));
  await eventually(async () => (await ask("/live")).status === 503, 6_000);
  expect((await ask("/ready")).body).toBe("turns run, and the engine stands still");
});

test("an engine that says nothing of NCCL is not admitted where the group spans nodes", async () => {
  const { guard } = await openGuard({ AXON_NCCL_LOGS: "/nonexistent" });
  await expect(guard.admit(syntheticEngine({ tokens: 1 }))).rejects.toMatchObject({
    code: "slow_network",
  });
});
