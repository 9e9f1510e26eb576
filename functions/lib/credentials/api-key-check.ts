import { timingSafeEqual } from "node:crypto";
import {
  type ApiKeyState,
  earliest,
  hasExpired,
  type KnownApiKey,
} from "../../../events/api-key.ts";
import { AxonError } from "../../../events/errors.ts";
import type { EventLog } from "../../../events/event-log.ts";
import { scopeNames } from "../../../events/scopes.ts";
import { ExpiringCache } from "../expiring-cache.ts";
import { apiKeys, load } from "../streams.ts";
import { parseApiKeyText } from "./api-key-text.ts";
import type { Authenticate, Identity } from "./authenticate.ts";

/**
 * For so long a key is taken to be as it was read: a revoked one may be good for HTTP requests for that much
 * longer. New connections are checked against Redis as well (key-connections.ts).
 */
const ttlMs = 30_000;
/** Keys that are there, and ids of which there is no key, apart: made-up ids put no good key out. */
const mostKnown = 5_000;
const mostUnknown = 5_000;
/**
 * A secret that a key does not have, as it was read so long ago at least, may be newer: it is read again. Sooner it
 * is not, so that guessed secrets of a known id cost the log no more than made-up ids.
 */
const rereadMs = 1_000;

/**
 * Checks API keys against the event log, which has them all. A key that was not read lately costs one query,
 * whether there is one of its id or not.
 * @param now Unix time, ms.
 * @throws what the log throws when it does not answer.
 */
export function apiKeyCheck(log: EventLog, now: () => number = Date.now): Authenticate {
  const { stateOf, newerThan } = apiKeyReader(log, now);
  return async (credential) => {
    const parsed = parseApiKeyText(credential);
    if (parsed === undefined) {
      throw refused("This is not a whole key: a character is wrong or missing. Copy it again.");
    }
    let read = await stateOf(parsed.keyId);
    if (secretOf(read.state, parsed.hash) === undefined) read = await newerThan(read, parsed.keyId);
    if (read.state.status === "none") throw unknownKey();
    return identityOf(read.state, parsed.hash, now());
  };
}

interface ReadKey {
  state: ApiKeyState;
  /** When the reading began, Unix ms. */
  at: number;
}

function apiKeyReader(log: EventLog, now: () => number) {
  const known = new ExpiringCache<ReadKey>({ ttlMs, entries: mostKnown }, now);
  const unknown = new ExpiringCache<ReadKey>({ ttlMs, entries: mostUnknown }, now);
  /** Reads that are under way: who asks for the same key meanwhile waits for the same one. */
  const reading = new Map<string, Promise<ReadKey>>();

  const read = async (keyId: string): Promise<ReadKey> => {
    const at = now();
    try {
      const { state } = await load(log, apiKeys, keyId);
      (state.status === "none" ? unknown : known).set(keyId, { state, at });
      return { state, at };
    } finally {
      reading.delete(keyId);
    }
  };
  const readOnce = (keyId: string): Promise<ReadKey> => {
    const begun = reading.get(keyId) ?? read(keyId);
    reading.set(keyId, begun);
    return begun;
  };
  return {
    stateOf: async (keyId: string): Promise<ReadKey> =>
      known.get(keyId) ?? unknown.get(keyId) ?? readOnce(keyId),
    /** The same where it was read just now, or where there is no such key. */
    newerThan: async (before: ReadKey, keyId: string): Promise<ReadKey> =>
      before.state.status === "none" || now() - before.at < rereadMs ? before : readOnce(keyId),
  };
}

type Secret = KnownApiKey["secrets"][number];

/** Every secret is compared, so that the time taken tells nothing about which one came close. */
function secretOf(key: ApiKeyState, hash: Buffer): Secret | undefined {
  let found: Secret | undefined;
  for (const secret of key.status === "none" ? [] : key.secrets) {
    if (timingSafeEqual(hash, Buffer.from(secret.sha256, "hex"))) found = secret;
  }
  return found;
}

/** Why a key is not good is told only to those who have its secret. */
function identityOf(key: KnownApiKey, hash: Buffer, at: number): Identity {
  const found = secretOf(key, hash);
  if (found === undefined) throw unknownKey();
  if (key.status === "revoked")
    throw refused("This key was revoked. Ask your operator for another.");
  if (hasExpired(key, at)) throw refused("This key has expired. Ask your operator for another.");
  if (found.goodUntil !== undefined && found.goodUntil <= at) {
    throw refused("This key was rotated, and its older secret is over. Use the new one.");
  }
  const { keyId, tenantId, userId, scopes } = key;
  const endsAt = earliest(key.expiresAt, found.goodUntil);
  return {
    ...{ tenantId, userId, scopes: scopeNames.filter((scope) => scopes.includes(scope)) },
    key: { keyId, generation: found.generation },
    ...(Number.isFinite(endsAt) && { endsAt }),
  };
}

const refused = (message: string): AxonError => new AxonError("unauthenticated", message);
/** The same where the id is wrong and where the secret is. */
const unknownKey = (): AxonError => refused("There is no such key. Use one that was issued here.");
