import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  PutObjectCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import type { S3Event } from "aws-lambda";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { s3Reader } from "../../functions/lib/objects.ts";
import { manifest } from "../../functions/manifest.ts";
import { localBucket } from "../../local/bucket.ts";
import { eventually } from "../support/eventually.ts";
import { awsClientConfig } from "../support/parts.ts";
import { RolloutStage } from "./rollout-stage.ts";
import { context, type Stage } from "./stage.ts";

const Bucket = `models-${Date.now()}`;
let stage: Stage;
let fresh: () => RolloutStage;
let one: RolloutStage;
let s3: S3Client;
beforeAll(async () => {
  ({ stage, fresh } = await RolloutStage.start());
  s3 = new S3Client({ ...awsClientConfig("sqs"), forcePathStyle: true });
  await s3.send(new CreateBucketCommand({ Bucket }));
});
afterAll(async () => {
  s3.destroy();
  await stage.close();
});
beforeEach(async () => {
  one = fresh();
  await one.adopt();
});

interface Put {
  key: string;
  eTag: string;
}

async function put(body: unknown, name = "next.json"): Promise<Put> {
  const Body = typeof body === "string" ? body : JSON.stringify(body);
  const key = `rollouts/${one.model}/${name}`;
  await s3.send(new PutObjectCommand({ Bucket, Key: key, Body }));
  return { key, eTag: createHash("md5").update(Body).digest("hex") };
}

/** What S3 tells: keys as in the query of a URL. */
const notification = (...puts: Put[]): S3Event =>
  ({
    Records: puts.map(({ key, eTag }) => ({
      s3: {
        bucket: { name: Bucket },
        object: {
          key: encodeURIComponent(key).replaceAll("%2F", "/").replaceAll("%20", "+"),
          eTag,
        },
      },
    })),
  }) as unknown as S3Event;

const handle = (...puts: Put[]) =>
  manifest({ ...one.deps, readObject: s3Reader(s3) })(notification(...puts), context);

const rejections = async () =>
  (await one.events()).flatMap((event) =>
    event.type === "RequestRejected" ? [{ reason: event.reason, source: event.source }] : [],
  );

test("a manifest starts the rollout that it asks for", async () => {
  await handle(await put({ revision: one.revision(2), steps: [50, 100] }, "to try 2.json"));
  const source = `s3://${Bucket}/rollouts/${one.model}/to try 2.json`;
  expect((await one.state()).current?.request).toMatchObject({
    ...{ model: one.model, revision: one.revision(2), steps: [50, 100], by: source },
    rolloutId: expect.stringMatching(/^manifest-[0-9a-f]{24}$/),
  });
});

test("the same version again starts nothing; another version is another request", async () => {
  const first = await put({ revision: one.revision(2) });
  await handle(first, first);
  await handle(first);
  expect((await one.types()).filter((type) => type === "RolloutRequested")).toHaveLength(1);
  await handle(await put({ revision: one.revision(2), whenBusy: "queue", reason: "once more" }));
  expect((await one.types()).filter((type) => type === "RolloutRequested")).toHaveLength(2);
});

describe("what is no good becomes an event with the reason, and nothing else", () => {
  test.each([
    ["not JSON", "{", /It is not JSON\./],
    ["a list", [], /not a JSON object/],
    ["no revision", {}, /^revision: /],
    ["steps that go back", { revision: "v2", steps: [50, 10] }, /^steps/],
    ["a field that is not known", { revision: "v2", gate: 1 }, /^gate: is not known here/],
    ["another model's", { revision: "v2", model: "other" }, /^model: is other, but/],
    ["too large", { revision: "v2", reason: "x".repeat(70_000) }, /70029 bytes; the most is 65536/],
  ])("%s", async (_what, body, reason) => {
    const before = await one.types();
    const bad = await put(body);
    await handle(bad);
    await handle(bad);
    expect(await one.types()).toEqual([...before, "RequestRejected"]);
    const [rejected] = await rejections();
    expect(rejected?.reason).toMatch(reason);
    expect(rejected?.source).toBe(`s3://${Bucket}/${bad.key}`);
  });

  test("one that comes while another is under way, and stays refused afterwards", async () => {
    await handle(await put({ revision: one.revision(2) }));
    const second = await put({ revision: one.revision(3), rolloutId: "mine" }, "second.json");
    await handle(second);
    expect(await rejections()).toMatchObject([{ reason: expect.stringMatching(/is under way/) }]);
    await one.ask("abort");
    for (let i = 0; i < 4; i++) await one.tick();
    await handle(second);
    expect((await one.state()).current).toBeUndefined();
  });
});

test("what is no manifest, or is there no more, is not looked at", async () => {
  const before = await one.types();
  await handle({ key: `llama/1/model.safetensors`, eTag: "x" });
  await handle({ key: `rollouts/${one.model}/deep/er.json`, eTag: "x" });
  const removed = await put({ revision: one.revision(2) });
  await s3.send(new DeleteObjectCommand({ Bucket, Key: removed.key }));
  await handle(removed);
  const overwritten = await put({ revision: one.revision(2) });
  await put({ revision: one.revision(3) });
  await handle(overwritten);
  expect(await one.types()).toEqual(before);
});

test("a store that is away fails the call, for S3's sender to try again", async () => {
  const file = await put({ revision: one.revision(2) });
  const readObject = () => Promise.reject(new Error("socket hang up"));
  const failing = manifest({ ...one.deps, readObject })(notification(file), context);
  await expect(failing).rejects.toThrow();
  expect(await rejections()).toEqual([]);
});

test("the bucket of the local stage is a folder", async () => {
  const folder = mkdtempSync(join(tmpdir(), "axon-bucket-"));
  const bucket = localBucket(folder, (error) => {
    throw error;
  });
  const source = bucket.notify(manifest({ ...one.deps, readObject: bucket.read }));
  const own = join(folder, "rollouts", one.model);
  mkdirSync(own);
  writeFileSync(join(own, "bad.json"), "{");
  await eventually(async () => (await rejections()).length === 1);
  writeFileSync(join(own, "good.json"), JSON.stringify({ revision: one.revision(2) }));
  await eventually(async () => (await one.state()).current !== undefined);
  await source.stop();
  expect(await rejections()).toHaveLength(1);
  rmSync(folder, { recursive: true });
});
