import { backoffMs } from "../../dataplane/backoff.ts";
import {
  Feed,
  hasNews,
  mayBeCut,
  type SaidToken,
  type Watcher,
} from "../../dataplane/relay/feed.ts";
import type { ServerFrame } from "../../events/frames.ts";
import {
  relayShardOf,
  type TurnMessage,
  turnChannel,
  type WatcherProgress,
  type WatchMessage,
} from "../../events/redis-keys.ts";
import { tried } from "./calls.ts";
import type { Gateway } from "./gateway.ts";
import type { Process, Task } from "./process.ts";
import type { SimulatedRedis } from "./redis.ts";
import type { RedisConnection } from "./redis-connection.ts";
import type { World } from "./world.ts";

interface DeliveryDeps {
  world: World;
  process: Process;
  redis: SimulatedRedis;
  connection: RedisConnection;
  subscriber: () => RedisConnection;
  gateway: Gateway;
}

interface Line {
  connectionId: string;
  busy: boolean;
  watchers: Set<Watcher>;
}

interface NextFrame {
  watcher: Watcher;
  frame: ServerFrame;
  sent: number;
  epoch: number;
  ends: boolean;
}

const mostFailures = 30;

/** What dataplane/relay/delivery.ts does, step by step, with its own feeds and its own rules about them. */
export class SimulatedDelivery {
  readonly #deps: DeliveryDeps;
  readonly #feeds = new Map<string, Feed>();
  readonly #lines = new Map<string, Line>();

  constructor(deps: DeliveryDeps) {
    this.#deps = deps;
  }

  get turnIds(): string[] {
    return [...this.#feeds.keys()];
  }

  hearTurn(message: TurnMessage): void {
    const feed = this.#feeds.get(message.turnId);
    if (feed === undefined) return;
    feed.heardAt = this.#deps.world.time.now;
    feed.hear(message);
    this.#pumpAll(feed);
  }

  hearWatch(message: WatchMessage): void {
    if (message.kind === "watch") this.watch(message.turnId, message.connectionId, message);
    else this.#detach(this.#lines.get(message.connectionId));
  }

  watch(turnId: string, connectionId: string, { sent, epoch }: WatcherProgress): void {
    const feed = this.#feeds.get(turnId) ?? this.#open(turnId);
    const line = this.#lines.get(connectionId) ?? {
      ...{ connectionId, busy: false, watchers: new Set() },
    };
    this.#lines.set(connectionId, line);
    const before = feed.watchers.get(connectionId);
    if (before !== undefined) line.watchers.delete(before);
    const watcher: Watcher = {
      ...{ feed, connectionId, sent, epoch, checkedEpoch: 0 },
      ...{ catchingUp: true, missing: 0, endSent: false, unsaved: false },
      servedAt: this.#deps.world.time.now,
    };
    feed.watchers.set(connectionId, watcher);
    line.watchers.add(watcher);
    this.#pump(line);
  }

  checkSilent(silentMs: number): void {
    const { now } = this.#deps.world.time;
    for (const feed of this.#feeds.values()) {
      if (feed.heardAt > now - silentMs) continue;
      feed.heardAt = now;
      for (const watcher of feed.watchers.values()) watcher.catchingUp = true;
      this.#pumpAll(feed);
    }
  }

  dropShard(shard: number): void {
    for (const [turnId, feed] of this.#feeds) {
      if (relayShardOf(turnId) !== shard) continue;
      for (const watcher of feed.watchers.values()) {
        this.#lines.get(watcher.connectionId)?.watchers.delete(watcher);
      }
      feed.watchers.clear();
      this.#close(feed);
    }
  }

  *saveProgress(): Task {
    const { redis, connection } = this.#deps;
    const unsaved = this.#watchers().filter((watcher) => watcher.unsaved);
    if (unsaved.length === 0) return;
    const saved = unsaved.map((watcher) => {
      watcher.unsaved = false;
      const { feed, connectionId, sent, epoch } = watcher;
      return { turnId: feed.turnId, connectionId, progress: { sent, epoch } };
    });
    yield* connection.call(() => {
      for (const { turnId, connectionId, progress } of saved) {
        redis.noteProgress(turnId, connectionId, progress);
      }
    });
  }

  *saveAll(): Task {
    const { redis, connection } = this.#deps;
    const all = this.#watchers().map(({ feed, connectionId, sent, epoch }) => ({
      ...{ turnId: feed.turnId, connectionId, progress: { sent, epoch } },
    }));
    yield* connection.call(() => {
      for (const { turnId, connectionId, progress } of all) {
        redis.enterWatcher(turnId, connectionId, progress);
      }
    });
  }

  get busy(): boolean {
    return [...this.#lines.values()].some((line) => line.busy);
  }

  #watchers(): Watcher[] {
    return [...this.#feeds.values()].flatMap((feed) => [...feed.watchers.values()]);
  }

  #open(turnId: string): Feed {
    const { world, process, subscriber } = this.#deps;
    // What the feed is told of it, it is told here: promises have no place in virtual time.
    const feed = new Feed(turnId, new Promise(() => {}), world.time.now);
    this.#feeds.set(turnId, feed);
    process.spawn(
      (function* () {
        yield* subscriber().subscribe(turnChannel(turnId));
        feed.isListening = true;
      })(),
    );
    return feed;
  }

  #close({ turnId }: Feed): void {
    this.#feeds.delete(turnId);
    const { process, subscriber } = this.#deps;
    process.spawn(subscriber().unsubscribe(turnChannel(turnId)));
  }

  #pumpAll(feed: Feed): void {
    for (const connectionId of feed.watchers.keys()) {
      const line = this.#lines.get(connectionId);
      if (line !== undefined) this.#pump(line);
    }
  }

  #pump(line: Line): void {
    if (line.busy) return;
    line.busy = true;
    this.#deps.process.after(0, () => this.#deps.process.spawn(this.#serveWhole(line)));
  }

  *#serveWhole(line: Line): Task {
    yield* this.#serve(line);
    line.busy = false;
    if ([...line.watchers].some(hasNews)) this.#pump(line);
    else if (line.watchers.size === 0) this.#lines.delete(line.connectionId);
  }

  *#serve(line: Line): Task {
    while ([...line.watchers].some(hasNews)) {
      const next = yield* this.#firstWithNews(line);
      if (next === undefined) return;
      const { watcher, frame, sent, epoch, ends } = next;
      line.watchers.delete(watcher);
      line.watchers.add(watcher);
      if (!(yield* this.#deliver(line, frame))) return;
      watcher.sent = sent;
      watcher.epoch = epoch;
      watcher.unsaved = true;
      watcher.servedAt = this.#deps.world.time.now;
      if (ends) this.#finish(line, watcher);
    }
  }

  *#firstWithNews(line: Line): Task<NextFrame | undefined> {
    for (const watcher of [...line.watchers]) {
      if (!hasNews(watcher)) continue;
      const next = yield* this.#nextFrame(watcher);
      if (next !== undefined && line.watchers.has(watcher)) return next;
    }
    return undefined;
  }

  *#nextFrame(watcher: Watcher): Task<NextFrame | undefined> {
    const { feed, sent } = watcher;
    const { turnId } = feed;
    while (!feed.isListening) yield* this.#deps.process.sleep(1);
    const rewind = yield* this.#rewindOf(watcher);
    if (rewind !== undefined) return rewind;
    const tokens = yield* this.#tokensAfter(watcher);
    const lateRewind = yield* this.#rewindOf(watcher);
    if (lateRewind !== undefined) return lateRewind;
    const last = tokens.at(-1);
    if (last !== undefined) {
      const [from, to, epoch] = [sent + 1, sent + tokens.length, last.epoch];
      const text = tokens.map((token) => token.text).join("");
      const frame = { type: "tokens", turnId, from, to, text, epoch } as const;
      return { watcher, frame, sent: to, epoch, ends: false };
    }
    if (feed.end === undefined || sent < feed.end.lastSeq || watcher.endSent) return undefined;
    if (sent > feed.end.lastSeq) return rewindTo(watcher, feed.end.lastSeq);
    const frame = { type: "done", turnId, ...feed.end } as const;
    return { watcher, frame, sent, epoch: watcher.epoch, ends: true };
  }

  *#rewindOf(watcher: Watcher): Task<NextFrame | undefined> {
    if (!mayBeCut(watcher)) return undefined;
    const { feed, sent, epoch } = watcher;
    watcher.checkedEpoch = feed.epoch;
    if (this.#deps.world.bugs.relayNeverRewinds === true) return undefined;
    const { redis, connection } = this.#deps;
    const stream = yield* connection.call(
      () => redis.streams.turn(feed.turnId)?.tokens.slice(0, sent) ?? [],
    );
    const kept = stream.findLastIndex((token) => token.epoch <= epoch) + 1;
    if (kept === watcher.sent) return undefined;
    watcher.catchingUp = true;
    return rewindTo(watcher, kept);
  }

  *#tokensAfter(watcher: Watcher): Task<readonly SaidToken[]> {
    const { feed, sent } = watcher;
    const known = watcher.catchingUp ? undefined : feed.after(sent);
    if (known !== undefined) return known;
    if (!watcher.catchingUp && sent >= feed.lastSeq) return [];
    watcher.catchingUp = false;
    const { redis, connection } = this.#deps;
    const { tokens, end, epoch } = yield* connection.call(() => {
      const stored = redis.streams.turn(feed.turnId);
      const after = stored?.tokens.slice(sent) ?? [];
      // The entry of the end stands in the place after the last token.
      const end = sent <= (stored?.tokens.length ?? 0) ? stored?.end : undefined;
      const sealedBy = end === undefined ? 0 : (stored?.epoch ?? 0);
      return { tokens: after, end, epoch: Math.max(sealedBy, after.at(-1)?.epoch ?? 0) };
    });
    feed.noteEpoch(epoch);
    feed.end ??= end;
    if (tokens.length === 0) watcher.missing = feed.lastSeq;
    if (tokens.length === 0 && end === undefined && sent > 0) yield* this.#readLast(feed);
    return tokens;
  }

  *#readLast(feed: Feed): Task {
    const { redis, connection } = this.#deps;
    const { end, epoch } = yield* connection.call(() => {
      const stored = redis.streams.turn(feed.turnId);
      const sealedBy = stored?.end === undefined ? 0 : stored.epoch;
      return { end: stored?.end, epoch: Math.max(sealedBy, stored?.tokens.at(-1)?.epoch ?? 0) };
    });
    feed.noteEpoch(epoch);
    feed.end ??= end;
  }

  *#deliver(line: Line, frame: ServerFrame): Task<boolean> {
    const { world, process, gateway } = this.#deps;
    const { connectionId } = line;
    for (let failures = 0; failures <= mostFailures; failures++) {
      const attempt = yield* tried(world, process, () => gateway.post(connectionId, frame));
      world.log?.(process.name, `to ${connectionId}: ${describe(frame)} ${outcomeOf(attempt)}`);
      if (attempt !== "failed") {
        if (attempt.reply === "sent") return true;
        break;
      }
      yield* process.sleep(backoffMs(failures, 20, 2_000));
    }
    this.#detach(line);
    return false;
  }

  #finish(line: Line, watcher: Watcher): void {
    watcher.endSent = true;
    line.watchers.delete(watcher);
    this.#forget(watcher);
  }

  #detach(line: Line | undefined): void {
    for (const watcher of line?.watchers ?? []) this.#forget(watcher);
    line?.watchers.clear();
  }

  #forget(watcher: Watcher): void {
    const { feed, connectionId } = watcher;
    const { turnId, watchers } = feed;
    if (watchers.get(connectionId) !== watcher) return;
    watchers.delete(connectionId);
    if (watchers.size === 0) this.#close(feed);
    const stays = watchers.size > 0;
    const { redis, connection, process } = this.#deps;
    const remove = () => {
      redis.removeWatcher(turnId, connectionId);
      redis.keys.connectionTurns.get(connectionId)?.delete(turnId);
      if (!stays) redis.keys.shardTurns.get(relayShardOf(turnId))?.delete(turnId);
    };
    process.spawn(connection.call(remove));
  }
}

const rewindTo = (watcher: Watcher, to: number): NextFrame => ({
  watcher,
  frame: { type: "rewind", turnId: watcher.feed.turnId, to },
  ...{ sent: to, epoch: to === 0 ? 0 : watcher.epoch, ends: false },
});

const outcomeOf = (attempt: { reply: "sent" | "gone" } | "failed"): string =>
  attempt === "failed" ? "failed" : attempt.reply;

export function describe(frame: ServerFrame): string {
  if (frame.type === "tokens") {
    return `tokens ${frame.from}–${frame.to} of epoch ${frame.epoch}: "${frame.text}"`;
  }
  if (frame.type === "rewind") return `rewind to ${frame.to}`;
  if (frame.type === "done") return `done at ${frame.lastSeq} of epoch ${frame.epoch}`;
  return frame.type;
}
