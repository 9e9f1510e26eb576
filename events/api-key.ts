import type { ApiKeyEvent } from "./api-key-events.ts";
import type { Decider } from "./decider.ts";
import { AxonError } from "./errors.ts";

/**
 * An API key: whose it is, what it may do, and which secrets open it.
 *
 *   none → good      it was issued, with its first secret.
 *   good → good      it was rotated: a new secret opens it, and those before it only until `olderUntil`.
 *        → revoked   for ever; no secret opens it any more.
 *
 * Expiry is no event: a key that has an `expiresAt` opens nothing from then on, and cannot be rotated.
 * Secrets are counted: the first is generation 1, and each rotation makes the next one. What has been opened
 * with a secret ends with it, so "up to generation n" says what a rotation or a revocation ends.
 */

/** What the events of `key/<id>` add up to. Times are Unix ms. */
export type ApiKeyState =
  | { status: "none" }
  | {
      status: "good" | "revoked";
      keyId: string;
      tenantId: string;
      userId: string;
      name: string;
      scopes: readonly string[];
      issuedAt: number;
      /** Unix ms. */
      expiresAt: number | undefined;
      /** The last time. */
      rotatedAt: number | undefined;
      /** Oldest first. */
      secrets: readonly Secret[];
      revokedAt: number | undefined;
    };

interface Secret {
  /** From 1. */
  generation: number;
  /** In hex. */
  sha256: string;
  /** Unix ms; the latest has none. */
  goodUntil: number | undefined;
}

/** A key that was issued. */
export type KnownApiKey = Exclude<ApiKeyState, { status: "none" }>;

type Stamp = { at: number; keyId: string; by: string };

/** `at` is Unix ms, `by` who asks. */
export type ApiKeyCommand =
  | ({
      type: "IssueKey";
      tenantId: string;
      userId: string;
      name: string;
      scopes: readonly string[];
      sha256: string;
      expiresAt?: number | undefined;
    } & Stamp)
  /** `graceMs` is how long the secrets before the new one stay good; 0 ends them at once. */
  | ({ type: "RotateKey"; sha256: string; graceMs: number } & Stamp)
  | ({ type: "RevokeKey"; reason: string } & Stamp);

/** The decider of API keys. Its states are told above. */
export const apiKey: Decider<ApiKeyCommand, ApiKeyEvent, ApiKeyState> = {
  initialState: () => ({ status: "none" }),
  decide,
  evolve,
};

function decide(command: ApiKeyCommand, state: ApiKeyState): ApiKeyEvent[] {
  const { at, keyId, by } = command;
  const stamp = { version: 1, at, keyId, by } as const;
  if (command.type === "IssueKey") return issue(command, state);
  if (state.status === "none") {
    throw new AxonError("not_found", `There is no key ${keyId}.`, { field: "keyId" });
  }
  switch (command.type) {
    case "RotateKey": {
      const { sha256, graceMs } = command;
      if (state.secrets.at(-1)?.sha256 === sha256) return [];
      if (state.status === "revoked") throw ended(keyId, "was revoked");
      if (hasExpired(state, at)) throw ended(keyId, "has expired");
      return [{ type: "KeyRotated", ...stamp, sha256, olderUntil: at + graceMs }];
    }
    case "RevokeKey":
      if (state.status === "revoked") return [];
      return [{ type: "KeyRevoked", ...stamp, reason: command.reason }];
  }
}

function issue(command: Extract<ApiKeyCommand, { type: "IssueKey" }>, state: ApiKeyState) {
  const { at, keyId, by, tenantId, userId, name, scopes, sha256, expiresAt } = command;
  if (state.status !== "none") {
    if (state.secrets[0]?.sha256 === sha256) return [];
    throw new AxonError("invalid_field", `There is a key ${keyId} already.`, { field: "keyId" });
  }
  if (expiresAt !== undefined && expiresAt <= at) {
    const message = "A key that has expired already is of no use. Name a later time.";
    throw new AxonError("invalid_field", message, { field: "expiresAt" });
  }
  const issued: ApiKeyEvent = {
    ...{ type: "KeyIssued", version: 1, at, keyId, by, tenantId, userId, name },
    ...{ scopes: [...scopes], sha256 },
    ...(expiresAt !== undefined && { expiresAt }),
  };
  return [issued];
}

const ended = (keyId: string, what: string): AxonError =>
  new AxonError("invalid_field", `The key ${keyId} ${what}. Issue another one.`, {
    field: "keyId",
  });

function evolve(state: ApiKeyState, event: ApiKeyEvent): ApiKeyState {
  if (event.type === "KeyIssued") {
    const { keyId, tenantId, userId, name, scopes, sha256, at, expiresAt } = event;
    return {
      status: "good",
      ...{ keyId, tenantId, userId, name, scopes, expiresAt },
      issuedAt: at,
      rotatedAt: undefined,
      secrets: [{ generation: 1, sha256, goodUntil: undefined }],
      revokedAt: undefined,
    };
  }
  if (state.status === "none") return state;
  switch (event.type) {
    case "KeyRotated": {
      const { at, sha256, olderUntil } = event;
      const older = state.secrets.map((secret) => ({
        ...secret,
        goodUntil: earliest(secret.goodUntil, olderUntil),
      }));
      const latest = { generation: latestGeneration(state) + 1, sha256, goodUntil: undefined };
      return { ...state, rotatedAt: at, secrets: [...older, latest] };
    }
    case "KeyRevoked":
      return { ...state, status: "revoked", revokedAt: event.at };
  }
}

/** The secret that the last rotation made. */
export const latestGeneration = ({ secrets }: KnownApiKey): number =>
  secrets.at(-1)?.generation ?? 0;

/** @param at Unix ms. */
export const hasExpired = ({ expiresAt }: KnownApiKey, at: number): boolean =>
  expiresAt !== undefined && expiresAt <= at;

/** The earliest of moments in Unix ms; those that are undefined never come. */
export const earliest = (...moments: (number | undefined)[]): number =>
  Math.min(...moments.map((moment) => moment ?? Number.POSITIVE_INFINITY));
