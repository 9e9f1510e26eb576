import { randomUUID } from "node:crypto";
import { Logger } from "@aws-lambda-powertools/logger";
import { Redis } from "ioredis";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startRelay } from "../../dataplane/relay/start-relay.ts";
import type { ServerFrame } from "../../events/frames.ts";
import { positionSource } from "../../events/ids.ts";
import type { Notice } from "../../events/observations.ts";
import { noticeChannel, observersKey } from "../../events/redis-keys.ts";
import { noteObserver } from "../../functions/lib/operations/observers.ts";
import { eventually } from "../support/eventually.ts";
import { freshRedis } from "../support/parts.ts";

/** What observers are told by relays, on a real Redis; what would go to browsers is recorded. */

const logger = new Logger({ serviceName: "test", logLevel: "SILENT" });
const position = positionSource();
let redis: Redis;
let frames: { relayId: string; connectionId: string; frame: ServerFrame; at: number }[];
let stops: (() => Promise<void>)[];
beforeEach(async () => {
  redis = new Redis(await freshRedis());
  frames = [];
  stops = [];
});
afterEach(async () => {
  for (const stop of stops) await stop();
  redis.disconnect();
});

async function relay(relayId = `relay-${randomUUID()}`): Promise<string> {
  const connections = {
    post: (connectionId: string, frame: ServerFrame) => {
      frames.push({ relayId, connectionId, frame, at: performance.now() });
      return connectionId.startsWith("gone") ? ("gone" as const) : ("sent" as const);
    },
  };
  const { stop } = await startRelay(relayId, { redis, connections, logger, now: Date.now });
  stops.push(stop);
  return relayId;
}

const observe = (connectionId: string, tenantId: string, now = Date.now) =>
  noteObserver({ redis, now }, connectionId, tenantId);

async function notice(stream: string, tenantId: string | null): Promise<void> {
  const change = { stream, version: 1, position: position(), at: Date.now(), types: ["It"] };
  await redis.publish(noticeChannel, JSON.stringify({ tenantId, change } satisfies Notice));
}

function streamsTold(connectionId: string): string[] {
  return frames
    .filter((sent) => sent.connectionId === connectionId)
    .flatMap(({ frame }) => (frame.type === "noticed" ? frame.changes : []))
    .map(({ stream }) => stream);
}

test("each hears of its own tenant's streams and of everybody's, by one relay, once a second", async () => {
  const ids = [randomUUID(), randomUUID(), randomUUID()].map((id) => `turn/${id}`);
  const [first = "", second = "", third = ""] = ids;
  const door = await relay("relay_0123456789ABCDEF");
  await relay();
  await relay();
  const own = `${door}.abc`;
  for (const id of ["a", "b", "c", own]) await observe(id, "acme");
  await observe("r", "rival");
  await observe("late", "acme", () => Date.now() - 61_000);
  await notice(first, "acme");
  await notice("group/g", null);
  await notice(second, "rival");
  await eventually(() => streamsTold("r").includes(second));
  for (const id of ["a", "b", "c", own]) await eventually(() => streamsTold(id).length === 2);
  await notice(third, "acme");
  await eventually(() => streamsTold("a").length === 3);
  expect(streamsTold("a")).toEqual([first, "group/g", third]);
  expect(streamsTold("r")).toEqual(["group/g", second]);
  expect(streamsTold("late")).toEqual([]);
  expect(
    new Set(frames.filter(({ connectionId }) => connectionId === own).map((f) => f.relayId)),
  ).toEqual(new Set([door]));
  const times = frames.filter(({ connectionId }) => connectionId === "a").map(({ at }) => at);
  const gaps = times.slice(1).map((at, i) => at - (times[i] ?? 0));
  for (const gap of gaps) expect(gap).toBeGreaterThan(900);
});

test("a connection that is gone is forgotten", async () => {
  await relay();
  await observe("gone-1", "acme");
  await notice("turn/t", "acme");
  await eventually(async () => (await redis.exists(observersKey)) === 0);
});
