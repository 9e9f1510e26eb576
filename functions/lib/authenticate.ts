import { createHash, timingSafeEqual } from "node:crypto";
import { createRemoteJWKSet, errors, jwtVerify } from "jose";
import * as z from "zod";
import { AxonError } from "../../events/errors.ts";
import { defaultScopes, type Scope, scopeNames } from "../../events/scopes.ts";
import { isOutage } from "./failures.ts";
import { json, provider } from "./provider.ts";

/** Who is asking. */
export interface Identity {
  tenantId: string;
  userId: string;
  /** What the credential may do. */
  scopes: readonly Scope[];
}

/**
 * Tells who a credential belongs to.
 * @throws AxonError unauthenticated | unavailable (the keys of the issuer cannot be had)
 */
export type Authenticate = (credential: string) => Promise<Identity>;

const apiKeysSchema = z.array(
  z.strictObject({
    /** SHA-256 of the key, in hex. The key itself is known to its owner only. */
    sha256: z.string().regex(/^[0-9a-f]{64}$/),
    tenantId: z.string().min(1),
    userId: z.string().min(1),
    scopes: z.array(z.enum(scopeNames)).default([...defaultScopes]),
  }),
);

export interface TokenIssuer {
  jwksUrl: string;
  issuer: string;
  audience: string;
}

const credentialsSchema = z
  .object({
    AXON_API_KEYS: z.string().default("[]").pipe(json).pipe(apiKeysSchema),
    AXON_JWKS_URL: z.url().optional(),
    AXON_JWT_ISSUER: z.string().min(1).optional(),
    AXON_JWT_AUDIENCE: z.string().min(1).optional(),
  })
  .transform((env, context) => {
    const { AXON_API_KEYS: apiKeys, AXON_JWKS_URL, AXON_JWT_ISSUER, AXON_JWT_AUDIENCE } = env;
    if (AXON_JWKS_URL === undefined) return { apiKeys, tokens: undefined };
    if (AXON_JWT_ISSUER === undefined || AXON_JWT_AUDIENCE === undefined) {
      context.addIssue({
        code: "custom",
        path: [AXON_JWT_ISSUER === undefined ? "AXON_JWT_ISSUER" : "AXON_JWT_AUDIENCE"],
        message: "must be set together with AXON_JWKS_URL",
      });
      return z.NEVER;
    }
    const tokens = {
      jwksUrl: AXON_JWKS_URL,
      issuer: AXON_JWT_ISSUER,
      audience: AXON_JWT_AUDIENCE,
    };
    return { apiKeys, tokens };
  });

export const credentials = provider(["authenticate"], credentialsSchema, ({ apiKeys, tokens }) => ({
  authenticate: authenticator(apiKeys, tokens),
}));

const claimsSchema = z.object({
  sub: z.string().min(1),
  tenantId: z.string().min(1),
  /** As in RFC 8693: names with spaces between them. Those of other services are passed over. */
  scope: z.string().optional(),
});

/** Accepts the API keys of a list and, where an issuer is named, its JWTs. */
export function authenticator(
  apiKeys: z.infer<typeof apiKeysSchema>,
  tokens?: TokenIssuer,
): Authenticate {
  const known = apiKeys.map(({ sha256, ...identity }) => ({
    hash: Buffer.from(sha256, "hex"),
    identity,
  }));
  const verifyToken = tokens === undefined ? undefined : tokenVerifier(tokens);

  return async (credential) => {
    const hash = createHash("sha256").update(credential).digest();
    let identity: Identity | undefined;
    // Every key is compared, so that the time taken tells nothing about which one came close.
    for (const key of known) {
      if (timingSafeEqual(hash, key.hash)) identity = key.identity;
    }
    if (identity !== undefined) return identity;
    if (verifyToken !== undefined && credential.split(".").length === 3) {
      return verifyToken(credential);
    }
    throw unauthenticated();
  };
}

function tokenVerifier({ jwksUrl, issuer, audience }: TokenIssuer): Authenticate {
  const keys = createRemoteJWKSet(new URL(jwksUrl), { timeoutDuration: 3_000 });
  return async (token) => {
    try {
      const { payload } = await jwtVerify(token, keys, {
        issuer,
        audience,
        requiredClaims: ["exp", "sub"],
      });
      const { sub, tenantId, scope } = claimsSchema.parse(payload);
      return {
        tenantId,
        userId: sub,
        scopes: scope === undefined ? defaultScopes : scopesIn(scope),
      };
    } catch (error) {
      if (isKeySetOutage(error)) {
        throw new AxonError(
          "unavailable",
          "The token's issuer did not answer. Try again shortly.",
          {
            cause: error,
          },
        );
      }
      throw unauthenticated(error);
    }
  };
}

/** The scopes that a text with spaces between them names; what else it names is passed over. */
export function scopesIn(text: string): Scope[] {
  const named = text.split(" ");
  return scopeNames.filter((scope) => named.includes(scope));
}

/** @throws AxonError forbidden */
export function requireScope({ scopes }: Identity, scope: Scope): void {
  if (scopes.includes(scope)) return;
  throw new AxonError(
    "forbidden",
    `This credential may not do that: it has not got the scope ${scope}. Ask your operator for a key that has.`,
  );
}

/** jose says "fetch failed" with the socket's error as cause, or that the answer was no key set. */
function isKeySetOutage(error: unknown): boolean {
  if (error instanceof errors.JWKSTimeout || isOutage(error)) return true;
  if (error instanceof TypeError && error.message === "fetch failed") return true;
  return (
    error instanceof errors.JOSEError &&
    error.code === "ERR_JOSE_GENERIC" &&
    error.message.includes("JSON Web Key Set HTTP response")
  );
}

export function unauthenticated(cause?: unknown): AxonError {
  return new AxonError(
    "unauthenticated",
    "The credential is missing, wrong or expired. Connect with a valid API key or token.",
    { cause },
  );
}
