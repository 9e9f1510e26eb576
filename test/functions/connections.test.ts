import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { redisSubscriber } from "../../events/redis-client.ts";
import {
  connectionKey,
  connectionTurnsKey,
  relayShardOf,
  shardChannel,
  turnKey,
  turnWatchersKey,
} from "../../events/redis-keys.ts";
import { type ConnectEvent, connect } from "../../functions/connect.ts";
import { disconnect } from "../../functions/disconnect.ts";
import { apiKeyCheck } from "../../functions/lib/credentials/api-key-check.ts";
import { authenticator } from "../../functions/lib/credentials/authenticate.ts";
import { lazyRedis } from "../../functions/lib/redis.ts";
import { watchTurn } from "../../functions/lib/turns/watchers.ts";
import { context, logger, type Stage, socketEvent, startStage } from "./stage.ts";

const audience = "axon";
const issuer = "https://issuer.test";

let stage: Stage;
let jwks: Server;
let signed: (
  claims: Record<string, unknown>,
  how?: { audience?: string; issuer?: string; expires?: string; key?: CryptoKey },
) => Promise<string>;

beforeAll(async () => {
  const { publicKey, privateKey } = await generateKeyPair("ES256");
  const keySet = { keys: [{ ...(await exportJWK(publicKey)), kid: "k1", alg: "ES256" }] };
  jwks = createServer((_, response) => {
    response.setHeader("content-type", "application/json").end(JSON.stringify(keySet));
  });
  await new Promise<void>((resolve) => jwks.listen(0, "127.0.0.1", resolve));
  const { port } = jwks.address() as AddressInfo;
  stage = await startStage({
    issuer: { jwksUrl: `http://127.0.0.1:${port}/keys`, issuer, audience },
  });
  signed = (claims, how = {}) =>
    new SignJWT(claims)
      .setProtectedHeader({ alg: "ES256", kid: "k1" })
      .setIssuer(how.issuer ?? issuer)
      .setAudience(how.audience ?? audience)
      .setExpirationTime(how.expires ?? "5m")
      .sign(how.key ?? privateKey);
});
afterAll(async () => {
  await stage.close();
  jwks.close();
});

const base64url = (text: string) => Buffer.from(text).toString("base64url");
const protocols = (credential: string) => `axon.v1, axon.auth.${base64url(credential)}`;

let connections = 0;
function connectEvent(headers: ConnectEvent["headers"]): ConnectEvent {
  const event = socketEvent(`c${connections++}`, "");
  return { ...event, ...(headers !== undefined && { headers }) };
}

async function tryConnect(headers: ConnectEvent["headers"]) {
  const event = connectEvent(headers);
  const result = await connect(stage.deps)(event, context);
  const key = connectionKey(event.requestContext.connectionId);
  return { result, binding: await stage.deps.redis.hgetall(key), key };
}

describe("connect", () => {
  test("binds the connection to the key's tenant, for as long as it may last", async () => {
    const { result, binding, key } = await tryConnect({
      "Sec-WebSocket-Protocol": protocols("key-of-acme"),
    });
    expect(result).toEqual({ statusCode: 200, headers: { "Sec-WebSocket-Protocol": "axon.v1" } });
    expect(binding).toMatchObject({ tenantId: "acme", userId: "user-of-acme" });
    expect(await stage.deps.redis.ttl(key)).toBeGreaterThan(7_200);
  });

  test("reads the header whatever its case, and a token in place of a key", async () => {
    const token = await signed({ sub: "ada", tenantId: "acme" });
    const { result, binding } = await tryConnect({ "sec-websocket-protocol": protocols(token) });
    expect(result.statusCode).toBe(200);
    expect(binding).toMatchObject({ tenantId: "acme", userId: "ada", scopes: "chat history" });
  });

  test("notes the scopes that a token names, and none that are not ours", async () => {
    const token = await signed({ sub: "ada", tenantId: "acme", scope: "openid ops:read chat" });
    const { binding } = await tryConnect({ "sec-websocket-protocol": protocols(token) });
    expect(binding["scopes"]).toBe("chat ops:read");
  });

  test("refuses whoever has no good credential, and binds nothing", async () => {
    const { privateKey: stranger } = await generateKeyPair("ES256");
    const claims = { sub: "ada", tenantId: "acme" };
    const tokens = await Promise.all([
      signed(claims, { audience: "another" }),
      signed(claims, { issuer: "https://another.test" }),
      signed(claims, { expires: "-5m" }),
      signed(claims, { key: stranger }),
      signed({ sub: "ada" }),
      signed({ tenantId: "acme" }),
    ]);
    const [good = ""] = [await signed(claims)];
    const refused: ConnectEvent["headers"][] = [
      undefined,
      {},
      { "Sec-WebSocket-Protocol": "axon.v1" },
      { "Sec-WebSocket-Protocol": `axon.auth.${base64url("key-of-acme")}` },
      { "Sec-WebSocket-Protocol": protocols("key-of-nobody") },
      { "Sec-WebSocket-Protocol": protocols("") },
      { "Sec-WebSocket-Protocol": protocols(`${good.slice(0, -4)}AAAA`) },
      ...tokens.map((token) => ({ "Sec-WebSocket-Protocol": protocols(token) })),
    ];
    for (const headers of refused) {
      const { result, binding } = await tryConnect(headers);
      expect(result).toEqual({ statusCode: 401 });
      expect(binding).toEqual({});
    }
  });

  test("says that it is unavailable, not that the token is bad, when its issuer is away", async () => {
    const token = await signed({ sub: "ada", tenantId: "acme" });
    const authenticate = authenticator([], apiKeyCheck(stage.deps.log), {
      jwksUrl: "http://127.0.0.1:9/keys",
      issuer,
      audience,
    });
    const event = connectEvent({ "Sec-WebSocket-Protocol": protocols(token) });
    const result = await connect({ ...stage.deps, authenticate })(event, context);
    expect(result).toEqual({ statusCode: 503 });
  });

  test("says that it is unavailable when Redis is away", async () => {
    const redis = lazyRedis("redis://127.0.0.1:9", logger);
    const event = connectEvent({ "Sec-WebSocket-Protocol": protocols("key-of-acme") });
    const result = await connect({ ...stage.deps, redis })(event, context);
    expect(result).toEqual({ statusCode: 503 });
    redis.disconnect();
  });
});

test("disconnect takes the connection out of its turns, and leaves the turns alone", async () => {
  const { redis } = stage.deps;
  const leaving = await stage.open("acme");
  const staying = await stage.open("acme");
  const turnIds = ["turn_a", "turn_b", "turn_c"];
  for (const turnId of turnIds) {
    await redis.hset(turnKey(turnId), "epoch", 1);
    await watchTurn(redis, turnId, leaving);
    await watchTurn(redis, turnId, staying, { sent: 4, epoch: 1 });
  }
  const subscriber = redisSubscriber(redis);
  const heard: { channel: string; text: string }[] = [];
  subscriber.on("message", (channel: string, text: string) => heard.push({ channel, text }));
  const channels = [...new Set(turnIds.map((turnId) => shardChannel(relayShardOf(turnId))))];
  await subscriber.subscribe(...channels);

  const result = await disconnect(stage.deps)(socketEvent(leaving, ""), context);
  expect(result).toEqual({ statusCode: 200 });
  for (const turnId of turnIds) {
    expect(await redis.hgetall(turnWatchersKey(turnId))).toEqual({ [staying]: "4:1" });
    expect(await redis.hgetall(turnKey(turnId))).toEqual({ epoch: "1" });
  }
  expect(await redis.exists(connectionKey(leaving), connectionTurnsKey(leaving))).toBe(0);
  expect(await redis.exists(connectionKey(staying), connectionTurnsKey(staying))).toBe(2);
  const gone = JSON.stringify({ kind: "gone", connectionId: leaving });
  await expect.poll(() => heard.filter(({ text }) => text === gone).length).toBe(channels.length);
  subscriber.disconnect();
});
