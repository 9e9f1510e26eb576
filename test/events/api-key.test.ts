import { describe, expect, test } from "vitest";
import { type ApiKeyCommand, apiKey, hasExpired, latestGeneration } from "../../events/api-key.ts";
import type { ApiKeyEvent } from "../../events/api-key-events.ts";
import { fold } from "../../events/decider.ts";
import { upcast } from "../../events/event-catalog.ts";
import { scenarios } from "./scenario.ts";

const { given } = scenarios(apiKey);

const hash = (digit: string) => digit.repeat(64);
const stamp = { at: 1_000, keyId: "k1", by: "ann" };
const fact = { version: 1, ...stamp } as const;
const whose = { tenantId: "acme", userId: "bot", name: "a bot", scopes: ["chat"] };

const issued: ApiKeyEvent = { type: "KeyIssued", ...fact, ...whose, sha256: hash("a") };
const expiring: ApiKeyEvent = { ...issued, expiresAt: 5_000 };
const rotated = (digit: string, at: number, olderUntil: number): ApiKeyEvent => ({
  ...{ type: "KeyRotated", ...fact, at, sha256: hash(digit), olderUntil },
});
const revoked: ApiKeyEvent = { type: "KeyRevoked", ...fact, at: 3_000, reason: "leaked" };

const issue: ApiKeyCommand = { type: "IssueKey", ...stamp, ...whose, sha256: hash("a") };
const rotate = (digit: string, at = 2_000): ApiKeyCommand => ({
  ...{ type: "RotateKey", ...stamp, at, sha256: hash(digit), graceMs: 500 },
});
const revoke: ApiKeyCommand = { type: "RevokeKey", ...stamp, at: 3_000, reason: "leaked" };

function known(...facts: ApiKeyEvent[]) {
  const state = fold(apiKey, facts);
  if (state.status === "none") throw new Error("It was not issued.");
  return state;
}

describe("a key", () => {
  test("is issued once", () => {
    given().when(issue).then(issued);
    given()
      .when({ ...issue, expiresAt: 5_000 })
      .then(expiring);
    given(issued).when(issue).thenNothing();
    given(issued)
      .when({ ...issue, sha256: hash("b") })
      .thenRefused("invalid_field", "keyId");
  });

  test("is not issued for a time that is over", () => {
    given()
      .when({ ...issue, expiresAt: 1_000 })
      .thenRefused("invalid_field", "expiresAt");
  });

  test("is rotated while it is good", () => {
    given().when(rotate("b")).thenRefused("not_found", "keyId");
    given(issued)
      .when(rotate("b"))
      .then(rotated("b", 2_000, 2_500));
    given(issued, rotated("b", 2_000, 2_500))
      .when(rotate("b"))
      .thenNothing();
    given(expiring)
      .when(rotate("b", 4_999))
      .then(rotated("b", 4_999, 5_499));
    given(expiring).when(rotate("b", 5_000)).thenRefused("invalid_field", "keyId");
    given(issued, revoked).when(rotate("b", 4_000)).thenRefused("invalid_field", "keyId");
  });

  test("is revoked once, for ever", () => {
    given().when(revoke).thenRefused("not_found", "keyId");
    given(issued).when(revoke).then(revoked);
    given(expiring)
      .when({ ...revoke, at: 9_000 })
      .then({ ...revoked, at: 9_000 });
    given(issued, revoked).when(revoke).thenNothing();
    given(issued, revoked).when(issue).thenNothing();
    expect(known(issued, revoked)).toMatchObject({ status: "revoked", revokedAt: 3_000 });
  });
});

describe("its secrets", () => {
  test("stay good until the grace of the rotation is over", () => {
    expect(known(issued, rotated("b", 2_000, 2_500)).secrets).toEqual([
      { generation: 1, sha256: hash("a"), goodUntil: 2_500 },
      { generation: 2, sha256: hash("b"), goodUntil: undefined },
    ]);
  });

  test("never get more time by a later rotation, and less by one without grace", () => {
    const twice = known(issued, rotated("b", 2_000, 2_500), rotated("c", 2_100, 9_000));
    expect(twice.secrets.map(({ goodUntil }) => goodUntil)).toEqual([2_500, 9_000, undefined]);
    const cut = known(issued, rotated("b", 2_000, 2_500), rotated("c", 2_100, 2_100));
    expect(cut.secrets.map(({ goodUntil }) => goodUntil)).toEqual([2_100, 2_100, undefined]);
    expect(latestGeneration(cut)).toBe(3);
  });

  test("end with the key", () => {
    expect(hasExpired(known(expiring), 4_999)).toBe(false);
    expect(hasExpired(known(expiring), 5_000)).toBe(true);
    expect(hasExpired(known(issued), Number.MAX_SAFE_INTEGER)).toBe(false);
  });
});

test("the catalog has all of its events", () => {
  for (const event of [issued, expiring, rotated("b", 1, 2), revoked]) {
    expect(upcast(structuredClone(event))).toEqual(event);
  }
});
