import {
  type StreamEnd,
  streamEndSchema,
  turnReadKey,
  turnTokensKey,
} from "../../../events/redis-keys.ts";
import type { TurnEvent } from "../../../events/turn-events.ts";
import type { Deps } from "../deps.ts";
import { isOutage } from "../failures.ts";
import { load, turns } from "../streams.ts";
import { doneFromLog, streamPresence, tellsTheRecord } from "./replay.ts";
import type { Bell } from "./turn-bells.ts";

/** How far somebody has got with an answer. */
export interface Place {
  /** Sequence number of the last token; 0 before the first. */
  seq: number;
  /** Of the leader that wrote it; 0 where it is not known. */
  epoch: number;
  /** UTF-16 units of the answer up to there: the log has the text, and not where its tokens end. */
  characters: number;
}

export const beginning: Place = { seq: 0, epoch: 0, characters: 0 };

export type AnswerPart =
  | { type: "text"; text: string; place: Place }
  | { type: "end"; end: StreamEnd; place: Place }
  /** Nothing was said for a while: what carries the answer may want to show that it lives. */
  | { type: "silence" };

/** What was read is not in the record any more, and other words stand in its place. */
export class AnswerRewound extends Error {
  override readonly name = "AnswerRewound";
}

/** The answer goes on, but whoever reads it may not stay. */
export class ReadingTimedOut extends Error {
  override readonly name = "ReadingTimedOut";
}

export interface Reading {
  turnId: string;
  from: Place;
  bell: Bell;
  /** Unix ms. */
  until: number;
  /** Aborted when nobody reads any more. */
  gone?: AbortSignal | undefined;
}

type ReadDeps = Pick<Deps, "redis" | "log" | "now">;

/** A notification that was lost costs so much time at most. */
const lookAgainMs = 1_000;
const silenceMs = 15_000;
/** A reader that says nothing for so long does not count as a watcher any more. */
const markMs = 6_000;
const markEveryMs = 2_000;
/** When the log is asked about a turn that has no stream: at first, and from then on. */
const askLogMs = { first: 2_000, later: 10_000 };
const readTokens = 512;

/** From here on somebody counts as watching the turn, for some seconds. */
export async function markRead({ redis }: Pick<Deps, "redis">, turnId: string): Promise<void> {
  await redis.set(turnReadKey(turnId), "1", "PX", markMs);
}

/**
 * Reads an answer as it grows, from a place on to its end, each token once and in order. Its stream may be
 * lost and written anew while it is read: where the new words are those that were read, nobody notices.
 * Who is not reading any more stops counting as a watcher within seconds.
 * @throws AnswerRewound where the words are others, which what was sent already cannot be cut back to;
 *   ReadingTimedOut at the end of `until`
 */
export async function* readAnswer(deps: ReadDeps, reading: Reading): AsyncGenerator<AnswerPart> {
  const reader = new AnswerReader(deps, reading);
  const { bell, gone, until } = reading;
  let saidAt = deps.now();
  let askLogAt = saidAt + askLogMs.first;
  while (!gone?.aborted) {
    if (deps.now() >= until) throw new ReadingTimedOut(`The time to read ${reading.turnId} is up.`);
    const parts = await reader.look();
    for (const part of parts) {
      yield part;
      if (part.type === "end") return;
    }
    const now = deps.now();
    if (parts.length > 0) {
      saidAt = now;
      askLogAt = now + askLogMs.first;
      continue;
    }
    if (now >= askLogAt) {
      askLogAt = now + askLogMs.later;
      const record = await reader.recorded();
      yield* record;
      if (record.length > 0) return;
    }
    if (now >= saidAt + silenceMs) {
      saidAt = now;
      yield { type: "silence" };
    }
    await bell.wait(Math.min(lookAgainMs, Math.max(1, until - now)), gone);
  }
}

interface Entry {
  seq: number;
  epoch: number;
  text: string;
  end: StreamEnd | undefined;
}

class AnswerReader {
  readonly #deps: ReadDeps;
  readonly #turnId: string;
  readonly #from: Place;
  #place: Place;
  /** Text of each token after `from`, as it was given away. */
  readonly #said: string[] = [];
  #markedAt = 0;

  constructor(deps: ReadDeps, { turnId, from }: Reading) {
    this.#deps = deps;
    this.#turnId = turnId;
    this.#from = from;
    this.#place = from;
  }

  /** What is new in the stream: at most one text, and the end. Nothing, while Redis is away. */
  async look(): Promise<AnswerPart[]> {
    try {
      if (this.#deps.now() >= this.#markedAt + markEveryMs) {
        await markRead(this.#deps, this.#turnId);
        this.#markedAt = this.#deps.now();
      }
      return this.#take(await this.#newEntries());
    } catch (error) {
      if (!isOutage(error)) throw error;
      return [];
    }
  }

  /** The rest of an answer that has ended in the log, where no stream tells of it; else nothing. */
  async recorded(): Promise<AnswerPart[]> {
    try {
      const stream = await streamPresence(this.#deps, this.#turnId);
      if (stream.exists) return [];
      const { state, events } = await load(this.#deps.log, turns, this.#turnId);
      return tellsTheRecord(state, stream) ? [] : this.#rest(events);
    } catch (error) {
      if (!isOutage(error)) throw error;
      return [];
    }
  }

  #rest(events: readonly TurnEvent[]): AnswerPart[] {
    return partsFromLog(events, this.#place, {
      characters: this.#from.characters,
      text: this.#said.join(""),
    });
  }

  #take(entries: readonly Entry[]): AnswerPart[] {
    const parts: AnswerPart[] = [];
    const tokens = entries.filter(({ end }) => end === undefined);
    const last = tokens.at(-1);
    if (last !== undefined) {
      const text = tokens.map((token) => token.text).join("");
      this.#said.push(...tokens.map((token) => token.text));
      const characters = this.#place.characters + text.length;
      this.#place = { seq: last.seq, epoch: last.epoch, characters };
      parts.push({ type: "text", text, place: this.#place });
    }
    const end = entries.at(-1)?.end;
    if (end !== undefined) parts.push({ type: "end", end, place: this.#place });
    return parts;
  }

  /** The entries after the place, once it is known that the stream still has what was read before it. */
  async #newEntries(): Promise<Entry[]> {
    const { seq, epoch } = this.#place;
    if (seq === 0) return this.#entries("-", "+", readTokens);
    const [own, ...others] = await this.#entries(`${seq}-0`, "+", readTokens);
    if (own?.seq === seq && own.end === undefined) {
      if (epoch === 0) this.#place = { ...this.#place, epoch: own.epoch };
      else if (own.epoch > epoch) await this.#compare();
      return others;
    }
    // The token is not there: Redis has lost it. Its leader writes it anew, or another one goes on before it.
    const [last] = await this.#last();
    if (last?.end !== undefined && last.seq <= seq) {
      throw new AnswerRewound(`The answer has ended before token ${seq}.`);
    }
    const isLost = last !== undefined && (last.epoch > epoch || last.end !== undefined);
    if (isLost) await this.#compare();
    return [];
  }

  /**
   * Whether the stream tells what was read, as far as it has got. Another leader has written since: where
   * the tokens before it were lost, it has drawn them again.
   */
  async #compare(): Promise<void> {
    const { from, place } = { from: this.#from, place: this.#place };
    const entries = await this.#entries(`${Math.max(1, from.seq)}-0`, `${place.seq}-0`, place.seq);
    for (const { seq, epoch, text, end } of entries) {
      const isOther =
        end !== undefined ||
        (seq === from.seq
          ? from.epoch > 0 && epoch > from.epoch
          : text !== this.#said[seq - from.seq - 1]);
      if (isOther) throw new AnswerRewound(`The words after token ${seq - 1} are others now.`);
    }
    const last = entries.at(-1);
    if (last?.seq === place.seq) this.#place = { ...place, epoch: last.epoch };
  }

  async #entries(from: string, to: string, most: number): Promise<Entry[]> {
    const key = turnTokensKey(this.#turnId);
    return (await this.#deps.redis.xrange(key, from, to, "COUNT", most)).map(entryOf);
  }

  async #last(): Promise<Entry[]> {
    const key = turnTokensKey(this.#turnId);
    return (await this.#deps.redis.xrevrange(key, "+", "-", "COUNT", 1)).map(entryOf);
  }
}

/** docs/PROTOCOL.md, "The token stream". */
function entryOf([id, fields]: [id: string, fields: string[]]): Entry {
  const [name, value = "", , third, , fifth] = fields;
  const seq = Number.parseInt(id, 10);
  if (name !== "end") return { seq, epoch: Number(fifth), text: value, end: undefined };
  return { seq, epoch: Number(third), text: "", end: streamEndSchema.parse(JSON.parse(value)) };
}

/**
 * An answer that has ended, by its log, from a place on.
 * @param known text of the answer that was read, and where it begins
 * @throws AnswerRewound where the log has other words there
 */
export function partsFromLog(
  events: readonly TurnEvent[],
  from: Place,
  known = { characters: from.characters, text: "" },
): AnswerPart[] {
  const done = doneFromLog(events);
  const ending = events.at(-1);
  if (done === undefined || ending === undefined || !("text" in ending)) return [];
  const { text } = ending;
  const isOther =
    text.length < from.characters ||
    !text.startsWith(known.text, known.characters) ||
    done.lastSeq < from.seq;
  if (isOther) throw new AnswerRewound("The record of the answer has other words.");
  const { type: _type, turnId: _turnId, ...end } = done;
  const place = { seq: done.lastSeq, epoch: 0, characters: text.length };
  const rest = text.slice(from.characters);
  const parts: AnswerPart[] = [{ type: "end", end, place }];
  return rest === "" ? parts : [{ type: "text", text: rest, place }, ...parts];
}
