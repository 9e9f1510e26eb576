import { createHash, randomBytes } from "node:crypto";
import { base32 } from "../../../events/ids.ts";

/**
 * An API key as its owner has it: `axon_<id>_<secret><checksum>`, in small letters and digits.
 *
 *   id        16 characters: which key it is. It is no secret, and stands in lists and logs.
 *   secret    52 characters: 256 random bits.
 *   checksum  6 characters of the SHA-256 of all before it, which tells a key that was copied wrongly from
 *             one that is not good any more, without a look at the log. It protects nothing.
 *
 * Whoever scans text for secrets that have leaked finds it by `axon_[0-9a-z]{16}_[0-9a-z]{58}`.
 */

export interface ApiKeyText {
  keyId: string;
  /** The whole of it, to be shown once. */
  text: string;
  /** What is kept of it: SHA-256 of the whole text, in hex. */
  sha256: string;
}

const idPattern = "[0-9a-hjkmnp-tv-z]{16}";
const pattern = new RegExp(`^axon_(${idPattern})_[0-9a-hjkmnp-tv-z]{58}$`);
const checksumCharacters = 6;

const sha256Of = (text: string): Buffer => createHash("sha256").update(text).digest();

function checksumOf(text: string): string {
  return base32(sha256Of(text), checksumCharacters).toLowerCase();
}

/** A new secret, of a new key unless its id is given. */
export function newApiKeyText(keyId: string = newId()): ApiKeyText {
  const unchecked = `axon_${keyId}_${base32(randomBytes(33), 52).toLowerCase()}`;
  const text = unchecked + checksumOf(unchecked);
  return { keyId, text, sha256: sha256Of(text).toString("hex") };
}

const newId = (): string => base32(randomBytes(10), 16).toLowerCase();

/** Whether a credential is meant to be such a key, whole or not. */
export const looksLikeApiKey = (credential: string): boolean => credential.startsWith("axon_");

/** The key's id and the hash of its text; undefined where a character of it is wrong or missing. */
export function parseApiKeyText(text: string): { keyId: string; hash: Buffer } | undefined {
  const keyId = pattern.exec(text)?.[1];
  if (keyId === undefined) return undefined;
  const checksum = text.slice(-checksumCharacters);
  if (checksumOf(text.slice(0, -checksumCharacters)) !== checksum) return undefined;
  return { keyId, hash: sha256Of(text) };
}
