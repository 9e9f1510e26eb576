import { createHash, timingSafeEqual } from "node:crypto";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { createRemoteJWKSet, errors, jwtVerify } from "jose";
import * as z from "zod";
import { AxonError } from "../../../events/errors.ts";
import { dynamoDbEventLog } from "../../../events/event-log-dynamodb.ts";
import { defaultScopes, type Scope, scopeNames } from "../../../events/scopes.ts";
import { awsClient } from "../aws-client.ts";
import { isOutage } from "../failures.ts";
import { json, provider } from "../provider.ts";
import { apiKeyCheck } from "./api-key-check.ts";
import { looksLikeApiKey } from "./api-key-text.ts";
import { scopesIn } from "./scopes.ts";

/** Who is asking. */
export interface Identity {
  tenantId: string;
  userId: string;
  /** What the credential may do. */
  scopes: readonly Scope[];
  /** Unix ms: when the credential ends by itself. Without it, it does not. */
  endsAt?: number;
  /** Which API key of the event log it is, and which of its secrets. */
  key?: { keyId: string; generation: number };
}

/**
 * Tells who a credential belongs to.
 * @throws AxonError unauthenticated | unavailable (the keys of the issuer cannot be had); what the event log
 * throws when it does not answer.
 */
export type Authenticate = (credential: string) => Promise<Identity>;

/** They become parts of keys, queries and messages: not every store takes control characters. */
const nameSchema = z.string().regex(/^[^\p{Cc}]{1,255}$/u, "must be 1 to 255 printable characters");

const apiKeysSchema = z.array(
  z.strictObject({
    /** SHA-256 of the key, in hex. The key itself is known to its owner only. */
    sha256: z.string().regex(/^[0-9a-f]{64}$/),
    tenantId: nameSchema,
    userId: nameSchema,
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
    AXON_EVENTS_TABLE: z.string().min(1),
    AXON_API_KEYS: z.string().default("[]").pipe(json).pipe(apiKeysSchema),
    AXON_JWKS_URL: z.url().optional(),
    AXON_JWT_ISSUER: z.string().min(1).optional(),
    AXON_JWT_AUDIENCE: z.string().min(1).optional(),
  })
  .transform((env, context) => {
    const { AXON_API_KEYS: apiKeys, AXON_EVENTS_TABLE: table } = env;
    const { AXON_JWKS_URL, AXON_JWT_ISSUER, AXON_JWT_AUDIENCE } = env;
    if (AXON_JWKS_URL === undefined) return { table, apiKeys, tokens: undefined };
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
    return { table, apiKeys, tokens };
  });

export const credentials = provider(
  ["authenticate"],
  credentialsSchema,
  ({ table, apiKeys, tokens }) => {
    const log = dynamoDbEventLog(new DynamoDBClient(impatientClient), table);
    return { authenticate: authenticator(apiKeys, apiKeyCheck(log), tokens) };
  },
);

/** `connect` has 10 s for all that it does: a log that is away has to be known before. */
const impatientClient = {
  maxAttempts: 2,
  requestHandler: { ...awsClient.requestHandler, requestTimeout: 2_000 },
};

const claimsSchema = z.object({
  sub: nameSchema,
  tenantId: nameSchema,
  /** As in RFC 8693: names with spaces between them. Those of other services are passed over. */
  scope: z.string().optional(),
  /** Unix time, s. */
  exp: z.number(),
});

/** Accepts the API keys of a list, those that were issued here and, where an issuer is named, its JWTs. */
export function authenticator(
  apiKeys: z.infer<typeof apiKeysSchema>,
  checkApiKey: Authenticate,
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
    if (looksLikeApiKey(credential)) return checkApiKey(credential);
    if (verifyToken !== undefined && credential.split(".").length === 3) {
      return verifyToken(credential);
    }
    throw unauthenticated();
  };
}

/** Those by which an issuer signs and nobody else can: with shared secrets whoever checks could sign, too. */
const algorithms = [
  ...["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
  ...["ES256", "ES384", "ES512", "EdDSA", "Ed25519"],
];

function tokenVerifier({ jwksUrl, issuer, audience }: TokenIssuer): Authenticate {
  const keys = createRemoteJWKSet(new URL(jwksUrl), { timeoutDuration: 3_000 });
  return async (token) => {
    try {
      const { payload } = await jwtVerify(token, keys, {
        issuer,
        audience,
        algorithms,
        requiredClaims: ["exp", "sub"],
      });
      const { sub, tenantId, scope, exp } = claimsSchema.parse(payload);
      return {
        tenantId,
        userId: sub,
        endsAt: exp * 1_000,
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
