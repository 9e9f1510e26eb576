import type { DataKey, DataKeys, KeyOwner } from "./data-keys.ts";
import type { DomainEvent } from "./event-catalog.ts";
import { type Commit, type EventLog, turnStream } from "./event-log.ts";
import { erase, hasWords, open, seal } from "./sealing.ts";

/** A log whose words are sealed where they are kept, and plain for whoever reads and writes through it. */
export interface SealedEventLog extends EventLog {
  /**
   * Commits that came another way (the table's stream), with their words. Those of an erased conversation
   * have none, and are marked.
   * @throws KeyMissing
   */
  open(commits: readonly Commit[]): Promise<Commit[]>;
}

/** There should be a key, or a note that it was destroyed: the table of keys has lost something. */
class KeyMissing extends Error {
  override readonly name = "KeyMissing";
  readonly stream: string;
  constructor(stream: string, keyId: string) {
    super(`The words in ${stream} are sealed with the key of ${keyId}, and there is no such key.`);
    this.stream = stream;
  }
}

/** The owners of so many turns are remembered, which spares reading a turn to find its conversation. */
const mostOwners = 10_000;

/**
 * Seals what goes into a log, and opens what comes out of it. Events without words, and those of before
 * there were keys, pass as they are. What is written to an erased conversation loses its words on the way.
 */
export function sealedEventLog(log: EventLog, keys: DataKeys): SealedEventLog {
  const owners = new Map<string, KeyOwner>();

  function remember(commit: Commit): void {
    const owner = ownerIn(commit.events);
    if (owner === undefined || !commit.stream.startsWith(turnStream(""))) return;
    owners.set(commit.stream, owner);
    const [oldest] = owners.keys();
    if (owners.size > mostOwners && oldest !== undefined) owners.delete(oldest);
  }

  /** The events of an end do not name their conversation: the turn's first one does. */
  async function ownerOf(stream: string, events: readonly DomainEvent[]): Promise<KeyOwner> {
    const known = ownerIn(events) ?? owners.get(stream);
    if (known !== undefined) return known;
    const [first] = await log.read(stream);
    const owner = ownerIn(first?.events ?? []);
    if (owner === undefined) throw new Error(`${stream} does not begin with whose it is.`);
    return owner;
  }

  async function openAll(commits: readonly Commit[]): Promise<Commit[]> {
    for (const commit of commits) remember(commit);
    const ids = commits.flatMap(({ events }) => events.flatMap((event) => keyIdOf(event) ?? []));
    const found = ids.length === 0 ? new Map<string, DataKey>() : await keys.find(ids);
    return commits.map((commit) => openCommit(commit, found));
  }

  return {
    open: openAll,
    read: async (stream) => openAll(await log.read(stream)),
    readShard: async (shard, after, limit) => openAll(await log.readShard(shard, after, limit)),

    readShardBack: async (shard, before, limit) =>
      openAll(await log.readShardBack(shard, before, limit)),

    async append(stream, expectedVersion, events) {
      if (!events.some(hasWords)) return log.append(stream, expectedVersion, events);
      const owner = await ownerOf(stream, events);
      const isNew = events.some(({ type }) => type === "ConversationStarted");
      const key = await keys.forWriting(owner, isNew);
      const version = expectedVersion + 1;
      const plain =
        key === "erased" ? events.map((event) => (hasWords(event) ? erase(event) : event)) : events;
      const stored = plain.map((event, index) =>
        key !== "erased" && hasWords(event)
          ? seal(event, { stream, version, index }, owner.conversationId, key)
          : event,
      );
      const commit = await log.append(stream, expectedVersion, stored);
      remember(commit);
      return { ...commit, events: plain };
    },
  };
}

function ownerIn(events: readonly DomainEvent[]): KeyOwner | undefined {
  for (const event of events) {
    if (event.type !== "ConversationStarted" && event.type !== "TurnRequested") continue;
    return { conversationId: event.conversationId, tenantId: event.tenantId };
  }
  return undefined;
}

const keyIdOf = (event: DomainEvent): string | undefined =>
  hasWords(event) ? event.sealed?.key : undefined;

function openCommit(commit: Commit, keys: ReadonlyMap<string, DataKey>): Commit {
  const { stream, version } = commit;
  const events = commit.events.map((event, index) => {
    const keyId = keyIdOf(event);
    if (keyId === undefined || !hasWords(event)) return event;
    const key = keys.get(keyId);
    if (key === undefined) throw new KeyMissing(stream, keyId);
    return key === "erased" ? erase(event) : open(event, { stream, version, index }, key);
  });
  return { ...commit, events };
}
