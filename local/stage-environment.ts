import { createHash } from "node:crypto";
import { z } from "zod";
import { type Scope, scopeNames } from "../events/scopes.ts";
import { StageError } from "./part.ts";

/** Everybody knows it: it opens a stage that listens on this machine only. */
export const developmentKey = "axon-dev-key";

/** A key that opens the stage, known by its hash. */
export interface StageApiKey {
  sha256: string;
  tenantId: string;
  userId: string;
  /** What it may do; without it, chat and read the history. */
  scopes?: readonly Scope[] | undefined;
}
const apiKeySchema = z.strictObject({
  sha256: z.string(),
  tenantId: z.string(),
  userId: z.string(),
  scopes: z.array(z.enum(scopeNames)).optional(),
});

/** Addresses of the stores. */
export interface Stores {
  redisUrl: string;
  databaseUrl: string;
  sqsUrl: string;
  dynamoDbUrl: string;
  /** Both SQS and DynamoDB are emulated here. */
  emulated: boolean;
}

/**
 * The environment of functions/ and dataplane/ on this machine: the caller's own, and where the parts
 * are. Emulators take any credentials; the caller's real ones are not shown to them.
 */
export function stageEnvironment(stores: Stores, apiKeys: StageApiKey[]): NodeJS.ProcessEnv {
  const credentials = stores.emulated && {
    AWS_ACCESS_KEY_ID: "local",
    AWS_SECRET_ACCESS_KEY: "local",
    AWS_SESSION_TOKEN: undefined,
    AWS_PROFILE: undefined,
  };
  return {
    AWS_REGION: "us-east-1",
    AXON_EVENTS_TABLE: "axon-events",
    AXON_DATA_KEYS_TABLE: "axon-data-keys",
    ...process.env,
    ...credentials,
    REDIS_URL: stores.redisUrl,
    DATABASE_URL: stores.databaseUrl,
    AWS_ENDPOINT_URL_SQS: stores.sqsUrl,
    AWS_ENDPOINT_URL_DYNAMODB: stores.dynamoDbUrl,
    AXON_API_KEYS: JSON.stringify(apiKeys),
  };
}

/**
 * The development key, those of AXON_API_KEYS, and `more`.
 * @throws StageError invalid_option
 */
export function stageApiKeys(more: readonly StageApiKey[]): StageApiKey[] {
  const sha256 = createHash("sha256").update(developmentKey).digest("hex");
  try {
    const text = process.env["AXON_API_KEYS"] ?? "[]";
    const fromEnvironment = z.array(apiKeySchema).parse(JSON.parse(text));
    const development = { sha256, tenantId: "local", userId: "local", scopes: scopeNames };
    return [development, ...fromEnvironment, ...more];
  } catch (cause) {
    throw new StageError(
      "invalid_option",
      'AXON_API_KEYS is no list of keys. It looks like [{"sha256":"…","tenantId":"a","userId":"b"}].',
      cause,
    );
  }
}
