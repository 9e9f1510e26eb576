import type { DomainEvent } from "./event-catalog.ts";
import { type Commit, type EventLog, shardOf, VersionConflict } from "./event-log.ts";
import { positionSource } from "./ids.ts";

/** The event log of a test: in this process, gone with it. */
export function memoryEventLog(nextPosition: () => string = positionSource()): EventLog {
  const commits: Commit[] = [];
  return {
    async read(stream) {
      return structuredClone(commits.filter((commit) => commit.stream === stream));
    },
    async append(stream: string, expectedVersion: number, events: DomainEvent[]) {
      const current = commits.filter((commit) => commit.stream === stream).length;
      const version = expectedVersion + 1;
      if (current !== expectedVersion) throw new VersionConflict(stream, version);
      const commit = structuredClone({ stream, version, position: nextPosition(), events });
      commits.push(commit);
      return structuredClone(commit);
    },
    async readShard(shard, after, limit) {
      const later = commits.filter(
        (commit) => shardOf(commit.stream) === shard && commit.position > after,
      );
      return structuredClone(later.slice(0, limit));
    },
    async readShardBack(shard, before, limit) {
      const earlier = commits.filter(
        ({ stream, position }) => shardOf(stream) === shard && (before === "" || position < before),
      );
      return structuredClone(earlier.slice(-limit).reverse());
    },
  };
}
