import type { MemoryStreams } from "./memory-streams.ts";
import { Violation } from "./world.ts";

/** What a reader has of a turn. */
interface Reading {
  after: number;
  /** Undefined where the reader knows nothing of epochs. */
  epoch: number | undefined;
  text: string;
}

/**
 * Looks at every write of a token stream, remembers all that a stream has ever held, and holds what
 * readers have against it.
 */
export class Witness {
  readonly #streams: MemoryStreams;
  /** By turn: the text up to a place of an epoch. */
  readonly #held = new Map<string, Map<number, string>>();
  readonly #texts = new Map<string, Set<string>>();
  readonly #endings = new Map<string, string>();

  constructor(streams: MemoryStreams) {
    this.#streams = streams;
  }

  /** Lets a leader of an epoch write. */
  write<T>(turnId: string, epoch: number, write: () => T): T {
    const before = this.#streams.turn(turnId);
    const was = before === undefined ? undefined : { ...before };
    const length = before?.tokens.length ?? 0;
    const reply = write();
    const now = this.#streams.turn(turnId);
    if (was !== undefined && was.epoch > epoch) {
      const isSame =
        now?.tokens.length === length &&
        (["epoch", "leaderId", "leaseUntilMs", "end", "cancel"] as const).every(
          (field) => now[field] === was[field],
        );
      if (!isSame) throw new Violation(`a stale leader (epoch ${epoch}) has changed ${turnId}`);
    }
    const isNew = now?.tokens !== was?.tokens;
    this.#look(turnId, isNew ? 0 : length);
    return reply;
  }

  /** Reads a stream's tokens after `from`. */
  #look(turnId: string, from: number): void {
    const tokens = this.#streams.turn(turnId)?.tokens ?? [];
    if (tokens.length <= from) return;
    let text = textOf(tokens.slice(0, from));
    let last = tokens[from - 1]?.epoch ?? 0;
    for (let i = from; i < tokens.length; i++) {
      const token = tokens[i];
      if (token === undefined) break;
      // Our engines number their tokens.
      if (token.token !== i + 1) {
        throw new Violation(`${turnId} has token ${token.token} in place ${i + 1}`);
      }
      if (token.epoch < last) {
        throw new Violation(`${turnId} goes back from epoch ${last} to ${token.epoch} at ${i + 1}`);
      }
      last = token.epoch;
      text += token.text;
      this.#remember(turnId, i + 1, token.epoch, text);
    }
  }

  #remember(turnId: string, seq: number, epoch: number, text: string): void {
    const held = this.#held.get(turnId) ?? new Map<number, string>();
    const texts = this.#texts.get(turnId) ?? new Set<string>();
    this.#held.set(turnId, held);
    this.#texts.set(turnId, texts.add(text));
    const other = held.get(placeOf(seq, epoch));
    if (other !== undefined && other !== text) {
      throw new Violation(`${turnId} up to ${seq} of epoch ${epoch} was "${other}", now "${text}"`);
    }
    held.set(placeOf(seq, epoch), text);
  }

  /** A turn has ended in the log. */
  noteEnding(turnId: string, text: string): void {
    if (this.#endings.has(turnId)) throw new Violation(`${turnId} has ended twice`);
    this.#endings.set(turnId, text);
  }

  endingOf(turnId: string): string | undefined {
    return this.#endings.get(turnId);
  }

  checkReader(name: string, turnId: string, { after, epoch, text }: Reading): void {
    if (after === 0 && text === "") return;
    if (epoch === 0) {
      if (this.#endings.get(turnId)?.startsWith(text)) return;
    } else if (epoch === undefined) {
      if (this.#texts.get(turnId)?.has(text) || this.#endings.get(turnId)?.startsWith(text)) return;
    } else if (this.#held.get(turnId)?.get(placeOf(after, epoch)) === text) {
      return;
    }
    throw new Violation(
      `${name} has "${text}" up to ${after} of epoch ${epoch}, which ${turnId} never held`,
    );
  }
}

const placeOf = (seq: number, epoch: number): number => seq * 2 ** 32 + epoch;

export function textOf(tokens: readonly { text: string }[]): string {
  return tokens.map(({ text }) => text).join("");
}
