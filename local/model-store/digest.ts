import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";

/** What a file's content has to hash to: the sha256 of Git LFS, or the id of a git blob. */
export interface Digest {
  algorithm: "sha256" | "git-blob";
  hex: string;
}

/** Hashes a file as it arrives, both as it was announced and by sha256. */
export class FileDigest {
  readonly #sha256 = createHash("sha256");
  readonly #blob: Hash | undefined;
  readonly #expected: Digest | undefined;

  constructor(expected?: Digest, sizeBytes = 0) {
    this.#expected = expected;
    if (expected?.algorithm !== "git-blob") return;
    // Git hashes a header before the content; a repository of 256 bits a hash says so by the length.
    const algorithm = expected.hex.length === 40 ? "sha1" : "sha256";
    this.#blob = createHash(algorithm).update(`blob ${sizeBytes}\0`);
  }

  update(chunk: Uint8Array): void {
    this.#sha256.update(chunk);
    this.#blob?.update(chunk);
  }

  /** Adds the first bytes of a file, `lengthBytes` of them. */
  async updateFrom(path: string, lengthBytes: number, signal?: AbortSignal): Promise<void> {
    if (lengthBytes === 0) return;
    const options = { end: lengthBytes - 1, highWaterMark: 1 << 20, ...(signal && { signal }) };
    for await (const chunk of createReadStream(path, options)) this.update(chunk);
  }

  /** Ends the hashing. Returns the sha256, and whether the content is what was announced. */
  end(): { sha256: string; matches: boolean } {
    const sha256 = this.#sha256.digest("hex");
    const found = this.#blob?.digest("hex") ?? sha256;
    return { sha256, matches: this.#expected === undefined || this.#expected.hex === found };
  }
}
