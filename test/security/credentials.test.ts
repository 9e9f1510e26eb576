import { createHmac } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, exportSPKI, generateKeyPair, SignJWT } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connectionKey } from "../../events/redis-keys.ts";
import { connect } from "../../functions/connect.ts";
import { newApiKeyText } from "../../functions/lib/credentials/api-key-text.ts";
import type { Deps } from "../../functions/lib/deps.ts";
import { context, type Stage, socketEvent, startStage } from "../functions/stage.ts";
import { HeardLogger } from "../support/heard-logger.ts";
import { httpDoors } from "./doors.ts";

/** Credentials that are expired, forged or broken, at every door that looks at one. */

const audience = "axon";
const issuer = "https://issuer.test";
const claims = { sub: "ada", tenantId: "acme" };
const logger = new HeardLogger();

let stage: Stage;
let deps: Deps;
let jwks: Server;
let good: string;
const forged = new Map<string, string>();

const encoded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
const now = () => Math.floor(Date.now() / 1_000);
const payload = (more: object = {}) => ({
  ...claims,
  ...{ iss: issuer, aud: audience, iat: now(), exp: now() + 300 },
  ...more,
});

/** Signed by a shared secret, which whoever forges takes from what is public. */
function hs256(secret: string, header: object = { kid: "k1" }): string {
  const signed = `${encoded({ alg: "HS256", ...header })}.${encoded(payload())}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

beforeAll(async () => {
  const { publicKey, privateKey } = await generateKeyPair("RS256", { extractable: true });
  const stranger = await generateKeyPair("RS256", { extractable: true });
  const publicJwk = { ...(await exportJWK(publicKey)), kid: "k1" };
  jwks = createServer((_, response) => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ keys: [publicJwk] }));
  });
  await new Promise<void>((resolve) => jwks.listen(0, "127.0.0.1", resolve));
  const { port } = jwks.address() as AddressInfo;
  const jwksUrl = `http://127.0.0.1:${port}/keys`;
  stage = await startStage({ issuer: { jwksUrl, issuer, audience } });
  deps = { ...stage.deps, logger };

  const sign = (body: object, header: object = {}, key = privateKey) =>
    new SignJWT(payload(body)).setProtectedHeader({ alg: "RS256", kid: "k1", ...header }).sign(key);
  good = await sign({});
  const [head = "", body = "", signature = ""] = good.split(".");
  const strangeJwk = await exportJWK(stranger.publicKey);
  const unlimited = new SignJWT({ ...claims, iss: issuer, aud: audience });
  for (const [name, token] of Object.entries({
    "alg none": `${encoded({ alg: "none" })}.${encoded(payload())}.`,
    "alg none, spelled otherwise": `${encoded({ alg: "nOnE", kid: "k1" })}.${encoded(payload())}.`,
    "alg none, with a signature": `${encoded({ alg: "none", kid: "k1" })}.${body}.${signature}`,
    "HS256 by the public key, as PEM": hs256(await exportSPKI(publicKey)),
    "HS256 by the public key, as JWK": hs256(JSON.stringify(publicJwk)),
    "HS256 by its modulus": hs256(publicJwk.n ?? ""),
    "HS256 by nothing": hs256(""),
    "another's key": await sign({}, {}, stranger.privateKey),
    "another's key, brought along": await sign({}, { jwk: strangeJwk }, stranger.privateKey),
    "another's key, by an address": await sign({}, { jku: jwksUrl }, stranger.privateKey),
    "a key that is not known": await sign({}, { kid: "k2" }),
    "a kid that is a path": await sign({}, { kid: "../../dev/null" }),
    "another issuer": await sign({ iss: "https://issuer.test.evil" }),
    "another audience": await sign({ aud: "axon-admin" }),
    "no audience": await sign({ aud: undefined }),
    "an end in the past": await sign({ exp: now() - 1 }),
    "no end": await unlimited.setProtectedHeader({ alg: "RS256", kid: "k1" }).sign(privateKey),
    "a beginning in the future": await sign({ nbf: now() + 300 }),
    "no tenant": await sign({ tenantId: undefined }),
    "a tenant that is no text": await sign({ tenantId: ["acme"] }),
    "a tenant with a control character": await sign({ tenantId: "acme\u0000" }),
    "a critical header that is not known": await sign({}, { crit: ["x"], x: 1 }).catch(
      () => `${encoded({ alg: "RS256", kid: "k1", crit: ["x"], x: 1 })}.${body}.${signature}`,
    ),
    "another payload": `${head}.${encoded(payload({ tenantId: "rival" }))}.${signature}`,
    "another signature": `${head}.${body}.${signature.slice(0, -8)}AAAAAAAA`,
    "no signature": `${head}.${body}.`,
    "a part too few": `${head}.${body}`,
    "a part too many": `${good}.${signature}`,
    "nothing in it": "..",
    "parts that are no base64": "%.%.%",
    "JSON that is none": `${Buffer.from("{").toString("base64url")}.${body}.${signature}`,
    "100 kB": `${head}.${"A".repeat(100_000)}.${signature}`,
    "a key that was not issued": newApiKeyText().text,
    "a key of another form": "axon_../../x_y",
    "a hash in a key's place": "0".repeat(64),
  })) {
    forged.set(name, token);
  }
});
afterAll(async () => {
  await stage.close();
  jwks.close();
});

async function open(credential: string) {
  const id = "forged";
  const protocols = `axon.v1, axon.auth.${Buffer.from(credential).toString("base64url")}`;
  const headers = { "Sec-WebSocket-Protocol": protocols };
  const { statusCode } = await connect(deps)({ ...socketEvent(id, ""), headers }, context);
  const isBound = (await deps.redis.del(connectionKey(id))) > 0;
  return { statusCode, isBound };
}

const ids = { turnId: "turn_1", conversationId: "conv_1" };

const enter = (credential: string) =>
  Promise.all(
    httpDoors.map(async (door) => {
      const headers = { authorization: `Bearer ${credential}` };
      const asked = { method: door.method, path: door.path(ids), headers };
      const body = door.body && JSON.stringify(door.body);
      const { code } = await door.call(deps, { ...asked, ...(body !== undefined && { body }) });
      return [door, code] as const;
    }),
  );

test("a good token opens every door", async () => {
  expect(await open(good)).toEqual({ statusCode: 200, isBound: true });
  for (const [door, code] of await enter(good)) expect(code).toBe(door.foreign ?? door.granted);
});

describe("refused by every door", () => {
  test("is each of them, for being no good credential", async () => {
    expect(forged.size).toBeGreaterThan(30);
    for (const [name, credential] of forged) {
      expect(await open(credential), name).toEqual({ statusCode: 401, isBound: false });
      for (const [{ path }, code] of await enter(credential)) {
        expect(code, `${name}, ${path(ids)}`).toBe("unauthenticated");
      }
    }
  });

  test("and nothing of one is in the log", () => {
    expect(logger.lines.length).toBeGreaterThan(forged.size);
    for (const credential of [good, ...forged.values()]) {
      for (const part of credential.split(".").filter(({ length }) => length > 20)) {
        expect(logger.text).not.toContain(part.slice(-20));
      }
    }
  });
});
