import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { conversationIdFor } from "../../events/ids.ts";
import { routeKey } from "../../events/redis-keys.ts";
import type { Weight } from "../../events/rollout-events.ts";
import { chat } from "../../functions/chat.ts";
import { modelCatalog } from "../../functions/lib/models.ts";
import {
  readWeights,
  revisionFor,
  route,
  setWeights,
} from "../../functions/lib/rollout/routing.ts";
import { ops } from "../../functions/ops.ts";
import { context, guide, type Stage, socketEvent, startStage } from "./stage.ts";

const weightsOf = (percent: number): Weight[] =>
  [
    { revision: "guide-1", percent: 100 - percent },
    { revision: "guide-2", percent },
  ].filter((weight) => weight.percent > 0);

const conversations = Array.from({ length: 5_000 }, (_, i) => conversationIdFor(`turn_${i}`));
const placesAt = (percent: number) =>
  conversations.map((id) => revisionFor(weightsOf(percent), id) === "guide-2");

describe("the revision of a conversation", () => {
  test("is each revision's for its share", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 100 }), (percent) => {
        const share = (100 * placesAt(percent).filter(Boolean).length) / conversations.length;
        // Four standard deviations of 5,000 draws.
        const tolerance = 4 * Math.sqrt((percent * (100 - percent)) / conversations.length);
        expect(Math.abs(share - percent)).toBeLessThanOrEqual(tolerance);
      }),
      { numRuns: 20 },
    );
  });

  test("changes only to the one whose share has grown, and back again when it shrinks", () => {
    fc.assert(
      fc.property(fc.nat(100), fc.nat(100), (one, other) => {
        const [low, high] = [placesAt(Math.min(one, other)), placesAt(Math.max(one, other))];
        expect(low.every((isNew, i) => !isNew || high[i])).toBe(true);
      }),
      { numRuns: 20 },
    );
  });

  test("follows from its id alone, in whatever order the weights stand", () => {
    fc.assert(
      fc.property(fc.string(), fc.integer({ min: 1, max: 99 }), (id, percent) => {
        const weights = weightsOf(percent);
        expect(revisionFor(weights.toReversed(), id)).toBe(revisionFor(weights, id));
      }),
    );
    expect(revisionFor([], "c1")).toBeUndefined();
  });

  test("is not the same few conversations' lot in every rollout", () => {
    const first = (revision: string) =>
      conversations.filter((id) => {
        const weights = [...weightsOf(0).map((weight) => ({ ...weight, percent: 90 }))];
        return revisionFor([...weights, { revision, percent: 10 }], id) === revision;
      });
    const [two, three] = [new Set(first("guide-2")), first("guide-3")];
    const both = three.filter((id) => two.has(id)).length;
    expect(both / three.length).toBeLessThan(0.5);
  });
});

let stage: Stage;
beforeAll(async () => {
  stage = await startStage();
  const [first] = stage.deps.models.all();
  const queueUrl = first?.queueUrl ?? "";
  stage.deps.models = modelCatalog([
    { ...guide, queueUrl },
    { ...guide, revision: "guide-2", default: false, queueUrl },
  ]);
});
afterAll(() => stage.close());

const newModel = () => `model-${randomUUID()}`;

const read = (model: string) => readWeights(stage.deps.redis, model);

describe("the weights in Redis", () => {
  const set = (model: string, percent: number, version: number) =>
    setWeights(stage.deps.redis, model, weightsOf(percent), version);

  test("are those of the highest version, however they come", async () => {
    const model = newModel();
    expect(await read(model)).toBeUndefined();
    expect(await set(model, 10, 2)).toBe(true);
    expect(await set(model, 0, 1)).toBe(false);
    expect(await read(model)).toMatchObject({ weights: weightsOf(10), version: 2 });
    expect(await set(model, 50, 3)).toBe(true);
    expect(await read(model)).toMatchObject({ weights: weightsOf(50), version: 3 });
  });

  test("keep their time while they are set again", async () => {
    const model = newModel();
    await set(model, 10, 2);
    await stage.deps.redis.hset(routeKey(model), "setAt", 5);
    await set(model, 10, 2);
    expect((await read(model))?.setAt).toBe(5);
    await set(model, 20, 2);
    expect((await read(model))?.setAt).toBeGreaterThan(1e12);
  });

  test("that somebody has spoilt are set again by the next version that comes", async () => {
    const model = newModel();
    await stage.deps.redis.hset(routeKey(model), { weights: "90/10", version: "new" });
    expect(await read(model)).toBeUndefined();
    expect(await set(model, 10, 1)).toBe(true);
    expect(await read(model)).toMatchObject({ weights: weightsOf(10), version: 1 });
  });

  test("are refused where they do not add up to 100", async () => {
    const odd = setWeights(stage.deps.redis, newModel(), [{ revision: "x", percent: 60 }], 1);
    await expect(odd).rejects.toThrow("must add up to 100");
  });
});

describe("a chat", () => {
  const key = routeKey("guide");
  const put = (weights: string) => stage.deps.redis.hset(key, { weights, version: 1, setAt: 1 });
  const log = { warn: vi.fn() };
  const routed = (id: string) => route(stage.deps, undefined, id, log);

  async function ask(conversationId?: string) {
    const connectionId = await stage.open("acme");
    const more = conversationId === undefined ? {} : { conversationId };
    const frame = { action: "chat", requestId: randomUUID(), prompt: "Hello", ...more };
    await chat(stage.deps)(socketEvent(connectionId, frame), context);
    return stage.framesTo(connectionId)[0];
  }

  test("gets the first revision where no weights were ever set", async () => {
    await stage.deps.redis.del(key);
    expect(await ask()).toMatchObject({ type: "accepted", revision: "guide-1" });
  });

  test("gets the revision of its conversation, and its job says so", async () => {
    await put(JSON.stringify(weightsOf(50)));
    const seen = new Set<string>();
    await stage.takeJobs();
    for (let i = 0; i < 24; i++) {
      const frame = await ask();
      if (frame?.type !== "accepted") throw new Error(JSON.stringify(frame));
      expect(frame.revision).toBe(revisionFor(weightsOf(50), frame.conversationId));
      seen.add(frame.revision);
    }
    expect(seen.size).toBe(2);
    const jobs = await stage.takeJobs();
    expect(new Set(jobs.map(({ revision }) => revision))).toEqual(seen);
  });

  test("is refused while the model is out of service", async () => {
    await put("[]");
    expect(await ask()).toMatchObject({ type: "error", code: "unknown_model", field: "model" });
  });

  test("finds the weights in the log when Redis has lost them, also that the model is retired", async () => {
    const model = newModel();
    const queueUrl = stage.deps.models.all()[0]?.queueUrl ?? "";
    const revisions = ["guide-3", "guide-4"].map((revision) => ({ ...guide, model, revision }));
    const models = modelCatalog(
      revisions.map((one, i) => ({ ...one, queueUrl, default: i === 0 })),
    );
    const deps = { ...stage.deps, models };
    const command = (payload: object) => ops(deps)({ model, ...payload }, context);
    const inForce = async () => (await route(deps, model, "c1", log)).revision;
    expect(await inForce()).toBe("guide-3");
    await command({ command: "adopt", revision: "guide-4", groupIds: ["guide-4-0"] });
    expect(await inForce()).toBe("guide-4");
    expect(await read(model)).toMatchObject({ weights: [{ revision: "guide-4", percent: 100 }] });
    await command({ command: "retire", revision: "guide-4" });
    await stage.deps.redis.del(routeKey(model));
    await expect(inForce()).rejects.toMatchObject({ code: "unknown_model" });
    expect(await read(model)).toMatchObject({ weights: [], version: 2 });
  });

  test("may come again where the weights cannot be read", async () => {
    await put("90/10");
    expect(await ask()).toMatchObject({ type: "error", code: "unavailable", retryable: true });
  });

  test("gets what is deployed here of what the weights name", async () => {
    await put('[{"revision":"guide-9","percent":90},{"revision":"guide-2","percent":10}]');
    for (const id of conversations.slice(0, 20)) {
      expect((await routed(id)).revision).toBe("guide-2");
    }
    expect(log.warn).toHaveBeenCalled();
    await put('[{"revision":"guide-9","percent":100}]');
    await expect(routed("c1")).rejects.toMatchObject({ code: "unavailable" });
  });
});
