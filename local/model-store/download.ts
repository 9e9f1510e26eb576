/**
 * One file from the hub, on disk as
 *
 *   NAME.part        what has arrived, in order
 *   NAME.state.json  what it is to become, so that a later pull can tell whether it may go on
 *   NAME             all of it, checked
 */

import {
  constants,
  existsSync,
  lstatSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { basename } from "node:path";
import { z } from "zod";
import { FileDigest } from "./digest.ts";
import { type RemoteFile, refuseFailure } from "./hub-api.ts";
import { contentOf, get, type Hub, PassingFailure, watched, withRetries } from "./hub-http.ts";
import type { ManifestFile } from "./manifest.ts";
import type { HubSource } from "./model-source.ts";
import { ModelStoreError } from "./model-store-error.ts";

export interface Download {
  hub: Hub;
  source: HubSource;
  remote: RemoteFile;
  /** Where its content is. */
  address: string;
  /** Of the file, when it is complete. */
  path: string;
  /** Hears how much of it is here; called often. */
  onBytes: (doneBytes: number) => void;
  /** Looks at the first bytes before the others are downloaded; what it throws ends the pull. */
  probe?: { afterBytes: number; check: (partPath: string) => Promise<void> };
}

const fileTries = 6;
const stateSchema = z.strictObject({
  digest: z.string(),
  sizeBytes: z.int(),
  etag: z.string().nullable(),
  /** Once it is complete. */
  sha256: z.string().nullable(),
});
type State = z.infer<typeof stateSchema>;

/** Bytes of a file that an earlier pull has left, and that this one can go on with. */
export function arrivedBytes(path: string, remote: RemoteFile): number {
  const state = readState(path);
  if (state?.digest !== remote.digest.hex || state.sizeBytes !== remote.sizeBytes) return 0;
  if (state.sha256 !== null && sizeOf(path) === remote.sizeBytes) return remote.sizeBytes;
  return Math.min(sizeOf(`${path}.part`), remote.sizeBytes);
}

/**
 * Downloads the file, or what is missing of it. Returns its line of the manifest. Throws
 * ModelStoreError; "checksum" when what came is not what was announced, and then it is deleted.
 */
export async function downloadFile(download: Download): Promise<ManifestFile> {
  const { hub, remote, path } = download;
  const name = basename(path);
  const known = readState(path);
  const begun = arrivedBytes(path, remote);
  if (known?.sha256 && begun === remote.sizeBytes && existsSync(path)) {
    download.onBytes(begun);
    return { name, sizeBytes: begun, sha256: known.sha256 };
  }
  if (begun === 0) forget(path);
  const part = new Part(download, begun, begun === 0 ? null : (known?.etag ?? null));
  try {
    await part.open();
    await withRetries(hub, { tries: fileTries, progress: () => part.received }, () => part.fetch());
    const { sha256, matches } = part.end();
    if (!matches) {
      forget(path);
      const what = `${name} has arrived with another content than ${new URL(hub.endpoint).host} announces`;
      throw new ModelStoreError("checksum", `${what}. It is deleted; pull again.`);
    }
    await part.sync();
    renameSync(`${path}.part`, path);
    writeState(path, { ...stateOf(remote), etag: part.etag, sha256 });
    return { name, sizeBytes: remote.sizeBytes, sha256 };
  } finally {
    await part.close();
  }
}

/** The bytes of a file that are here, with their hash. */
class Part {
  readonly #download: Download;
  #file: FileHandle | undefined;
  #digest: FileDigest;
  #done: number;
  #probed = false;
  /** Of the content that these bytes are of, if its server has told one. */
  etag: string | null;
  /** Bytes that came over the network, also those that were of no use. */
  received = 0;

  constructor(download: Download, doneBytes: number, etag: string | null) {
    const { digest, sizeBytes } = download.remote;
    this.#download = download;
    this.#digest = new FileDigest(digest, sizeBytes);
    this.#done = doneBytes;
    this.etag = etag;
  }

  async open(): Promise<void> {
    const { path, hub, onBytes } = this.#download;
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
    this.#file = await open(`${path}.part`, flags, 0o644);
    await this.#handle.truncate(this.#done);
    await this.#digest.updateFrom(`${path}.part`, this.#done, hub.signal);
    onBytes(this.#done);
  }

  /** Asks for what is missing. Throws PassingFailure when less came, and ModelStoreError. */
  async fetch(): Promise<void> {
    const { hub, source, remote, address } = this.#download;
    await this.#probe();
    if (this.#done === remote.sizeBytes && remote.sizeBytes > 0) return;
    await watched(hub, async (signal, alive) => {
      const response = await get(hub, address, { signal, headers: this.#range() });
      const host = new URL(response.url || address).host;
      if (response.status === 416) {
        await response.body?.cancel();
        await this.#startOver("the server has fewer bytes than arrived");
        throw new PassingFailure(`${host} answered 416`, {});
      }
      refuseFailure(hub, source, response);
      await this.#begin(response);
      for await (const chunk of contentOf(hub, host, response)) {
        alive();
        await this.#add(chunk);
      }
      if (this.#done < remote.sizeBytes) {
        throw new PassingFailure(`${host} ended after ${this.#done} bytes`, {});
      }
    });
  }

  end() {
    return this.#digest.end();
  }

  /** What is renamed into place is to be there after a loss of power, too. */
  async sync(): Promise<void> {
    await this.#handle.sync();
  }

  async close(): Promise<void> {
    await this.#file?.close();
  }

  get #handle(): FileHandle {
    if (this.#file === undefined) throw new Error("The part is not open.");
    return this.#file;
  }

  #range(): Record<string, string> {
    if (this.#done === 0) return {};
    const isStrong = this.etag?.startsWith('"') ?? false;
    return {
      range: `bytes=${this.#done}-`,
      // With another content the server then sends all of it.
      ...(isStrong && { "if-range": String(this.etag) }),
    };
  }

  /** Decides whether the answer goes on where the part ends, and starts over if it does not. */
  async #begin(response: Response): Promise<void> {
    const { remote, path } = this.#download;
    const etag = response.headers.get("etag");
    const range = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get("content-range") ?? "");
    const [, start, total] = range ?? [];
    if (response.status === 206 && (Number(start) !== this.#done || this.#isOther(etag))) {
      await this.#discard(response);
      await this.#startOver("it has changed on the server");
      throw new PassingFailure(`${basename(path)} has changed on the server`, {});
    }
    if (response.status !== 206 && this.#done > 0) {
      const why = this.#isOther(etag)
        ? "it has changed on the server"
        : "the server sends all of it";
      await this.#startOver(why);
    }
    const length = total ?? response.headers.get("content-length");
    const announced = response.headers.has("content-encoding") ? null : length;
    if (announced !== null && Number(announced) !== remote.sizeBytes) {
      await this.#discard(response);
      throw this.#wrongSize(`${announced} bytes`);
    }
    this.etag = etag;
    writeState(path, { ...stateOf(remote), etag, sha256: null });
  }

  async #add(chunk: Uint8Array): Promise<void> {
    const { remote, onBytes } = this.#download;
    this.received += chunk.length;
    if (this.#done + chunk.length > remote.sizeBytes) throw this.#wrongSize("more bytes");
    for (let at = 0; at < chunk.length; ) {
      const left = chunk.length - at;
      at += (await this.#handle.write(chunk, at, left, this.#done + at)).bytesWritten;
    }
    this.#digest.update(chunk);
    this.#done += chunk.length;
    onBytes(this.#done);
    await this.#probe();
  }

  async #probe(): Promise<void> {
    const { probe, path } = this.#download;
    if (probe === undefined || this.#probed || this.#done < probe.afterBytes) return;
    this.#probed = true;
    await probe.check(`${path}.part`);
  }

  async #startOver(why: string): Promise<void> {
    const { hub, remote, path, onBytes } = this.#download;
    hub.tell({ type: "startOver", file: basename(path), why });
    await this.#handle.truncate(0);
    this.#digest = new FileDigest(remote.digest, remote.sizeBytes);
    this.#done = 0;
    this.etag = null;
    onBytes(0);
  }

  /** The connection is not kept for an answer that nobody reads. */
  async #discard(response: Response): Promise<void> {
    await response.body?.cancel();
  }

  #isOther(etag: string | null): boolean {
    return etag !== null && this.etag !== null && etag !== this.etag;
  }

  #wrongSize(found: string): ModelStoreError {
    const { remote, path } = this.#download;
    forget(path);
    return new ModelStoreError(
      "checksum",
      `${basename(path)} comes with ${found} instead of the ${remote.sizeBytes} that were announced. ` +
        "It is deleted; pull again.",
    );
  }
}

function stateOf({ digest, sizeBytes }: RemoteFile) {
  return { digest: digest.hex, sizeBytes };
}

function readState(path: string): State | undefined {
  try {
    return stateSchema.parse(JSON.parse(readFileSync(`${path}.state.json`, "utf8")));
  } catch {
    return undefined;
  }
}

function writeState(path: string, state: State): void {
  writeFileSync(`${path}.state.json.new`, JSON.stringify(state));
  renameSync(`${path}.state.json.new`, `${path}.state.json`);
}

function sizeOf(path: string): number {
  return lstatSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

function forget(path: string): void {
  for (const ending of ["", ".part", ".state.json"]) rmSync(path + ending, { force: true });
}
