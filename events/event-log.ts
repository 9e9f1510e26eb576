import type { DomainEvent } from "./event-catalog.ts";

/** Events that were written together: one version of one stream. */
export interface Commit {
  /** `turn/<id>`, `conversation/<id>`, `group/<id>`, `rollout/<model>` or `key/<id>`. */
  stream: string;
  /** From 1, without gaps. */
  version: number;
  /** Sorts commits of all streams by time of writing (see `positionSource`). */
  position: string;
  events: DomainEvent[];
}

/** Someone else wrote this version of the stream first: load again, decide again. */
export class VersionConflict extends Error {
  override readonly name = "VersionConflict";
  readonly stream: string;
  readonly version: number;
  constructor(stream: string, version: number, cause?: unknown) {
    super(`Version ${version} of ${stream} is written already.`, { cause });
    this.stream = stream;
    this.version = version;
  }
}

/**
 * An append-only log of streams. An append is atomic: all of its events are there, or none. Reading
 * a stream sees every append that has returned.
 */
export interface EventLog {
  /** All commits of a stream, oldest first; none when the stream does not exist. */
  read(stream: string): Promise<Commit[]>;
  /**
   * Writes `events` as the version after `expectedVersion` (0 for a new stream).
   * @throws VersionConflict when that version exists already.
   */
  append(stream: string, expectedVersion: number, events: DomainEvent[]): Promise<Commit>;
  /**
   * Commits of one shard of the global order whose position is above `after` ("" for the start),
   * oldest first, at most `limit` of them; fewer only where there are no more. A commit can show up late by the
   * clock skew between writers and the delay of the index: who follows the log reads the last seconds again.
   */
  readShard(shard: number, after: string, limit: number): Promise<Commit[]>;
  /** The same backwards: commits whose position is below `before` ("" for the end), newest first. */
  readShardBack(shard: number, before: string, limit: number): Promise<Commit[]>;
}

/** The global order is kept in this many parts, so that no single partition takes every write. */
export const logShards = 4;

/** The shard of the global order that a stream belongs to (FNV-1a, 32 bit). */
export function shardOf(stream: string, shards: number = logShards): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < stream.length; i++) {
    hash = Math.imul(hash ^ stream.charCodeAt(i), 0x01000193) >>> 0;
  }
  return hash % shards;
}

/** The names of streams: what a stream is about, and its id. */
export const turnStream = (turnId: string): string => `turn/${turnId}`;
export const conversationStream = (conversationId: string): string =>
  `conversation/${conversationId}`;
export const groupStream = (groupId: string): string => `group/${groupId}`;
export const rolloutStream = (model: string): string => `rollout/${model}`;
export const apiKeyStream = (keyId: string): string => `key/${keyId}`;
