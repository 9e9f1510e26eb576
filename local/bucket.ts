import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Context, S3Event } from "aws-lambda";
import { mostObjectBytes, type ReadObject, tooLarge } from "../functions/lib/objects.ts";
import { type EventSource, schedule } from "./event-sources.ts";
import { invoke } from "./lambda-context.ts";

/**
 * The model bucket of this machine: a folder. A file in it is an object whose key is its path, and whose
 * version is its content.
 */
export interface LocalBucket {
  read: ReadObject;
  /** Tells a handler of each manifest that is new or was changed, as S3 does. */
  notify(handler: (event: S3Event, context: Context) => Promise<unknown>): EventSource;
}

const lookEveryMs = 500;
const manifestsFolder = "rollouts";

export function localBucket(folder: string, onError: (error: unknown) => void): LocalBucket {
  mkdirSync(join(folder, manifestsFolder), { recursive: true });
  const contentOf = (key: string): Buffer | undefined => {
    const path = join(folder, key);
    const { size = 0 } = statSync(path, { throwIfNoEntry: false }) ?? {};
    if (size > mostObjectBytes) throw tooLarge(size);
    return size === 0 ? undefined : readFileSync(path);
  };
  /** Keys that were told of → when and how large they were. */
  const told = new Map<string, string>();

  async function look(handler: Parameters<LocalBucket["notify"]>[0]): Promise<void> {
    for (const key of manifestKeys(folder)) {
      const stat = statSync(join(folder, key), { throwIfNoEntry: false });
      const state = `${stat?.mtimeMs} ${stat?.size}`;
      if (stat === undefined || told.get(key) === state) continue;
      const size = stat.size;
      const eTag = size > mostObjectBytes ? state : hashOf(readFileSync(join(folder, key)));
      await invoke("manifest", handler, notification(key, eTag, size), 30_000);
      // Only now: what has failed is told of again.
      told.set(key, state);
    }
  }

  return {
    async read({ key, eTag }) {
      const content = contentOf(key);
      return content !== undefined && hashOf(content) === eTag
        ? content.toString("utf8")
        : undefined;
    },
    notify: (handler) => schedule(lookEveryMs, () => look(handler), onError),
  };
}

function manifestKeys(folder: string): string[] {
  return readdirSync(join(folder, manifestsFolder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".json"))
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}

const hashOf = (content: Buffer): string => createHash("sha256").update(content).digest("hex");

function notification(key: string, eTag: string, size: number): S3Event {
  return {
    Records: [
      {
        eventVersion: "2.1",
        eventSource: "aws:s3",
        awsRegion: "us-east-1",
        eventTime: new Date().toISOString(),
        eventName: "ObjectCreated:Put",
        userIdentity: { principalId: "local" },
        requestParameters: { sourceIPAddress: "127.0.0.1" },
        responseElements: { "x-amz-request-id": "local", "x-amz-id-2": "local" },
        s3: {
          s3SchemaVersion: "1.0",
          configurationId: "local",
          bucket: {
            name: "local",
            ownerIdentity: { principalId: "local" },
            arn: "arn:aws:s3:::local",
          },
          object: {
            key: encodeURIComponent(key).replaceAll("%2F", "/"),
            ...{ size, eTag, sequencer: "0" },
          },
        },
      },
    ],
  };
}
