import { AxonClientError } from "./errors.ts";
import type { AcceptedFrame, DoneFrame, RewindFrame, TokensFrame } from "./wire.ts";

/** What happens to a turn, in the order in which it happens. */
export type TurnUpdate =
  | Omit<AcceptedFrame, "requestId">
  /** The answer goes on with `text`: tokens `from` to `to`. */
  | { type: "text"; text: string; from: number; to: number }
  /** The answer so far is `text`, up to token `to`; what was beyond it does not count. */
  | { type: "rewind"; text: string; to: number }
  /** The last update. `text` is the whole answer. */
  | (Omit<DoneFrame, "turnId"> & { text: string });

/** How far a turn was read. Kept somewhere, it lets another client go on from there. */
export interface TurnProgress {
  /** The last sequence number that was applied. */
  after: number;
  /** The epoch of that token; 0 where it is not known. */
  epoch: number;
  /** The answer up to it. */
  text: string;
}

/** A turn as a program sees it: iterate over it, or wait for its text. */
export interface Turn extends AsyncIterable<TurnUpdate> {
  /** Known once the turn is accepted. */
  readonly turnId: string | undefined;
  readonly conversationId: string | undefined;
  /** How far it was read, for `resume`. */
  readonly progress: TurnProgress;
  /** The whole answer, when it has ended. Rejects with AxonClientError when the turn fails. */
  text(): Promise<string>;
  /** Ends the turn. What was said until then stays; the last update says `cancelled`. */
  cancel(): void;
}

export type TurnFrame = TokensFrame | RewindFrame | DoneFrame;

/** What a turn needs of the client that follows it. */
export interface TurnLine {
  send(frame: object): void;
  /** Nothing was heard of the turn for too long: tells the server again what is wanted of it. */
  remind(turn: FollowedTurn): void;
  leave(turn: FollowedTurn): void;
  quietMs: number;
}

/** What stays missing is asked for again after this long. */
const askAgainMs = 1_000;
/** Reminders come at growing intervals: a turn that waits in a long queue has nothing to say. */
const mostQuietFactor = 8;

/**
 * Follows one turn by its sequence numbers and epochs. Each token has one place; a leader writes a
 * place once; and of two leaders the one with the higher epoch is right. So a frame that comes next
 * is applied, one that was applied is skipped, one of an earlier leader than the last is ignored, and
 * whatever else comes makes it ask the server, which knows what the record holds.
 */
export class FollowedTurn implements Turn {
  turnId: string | undefined;
  conversationId: string | undefined;
  cancelRequested = false;
  /** Reminders since something was heard. */
  reminders = 0;
  readonly #line: TurnLine;
  readonly #pieces: { to: number; text: string; epoch: number }[] = [];
  readonly #updates: TurnUpdate[] = [];
  readonly #finished = Promise.withResolvers<string>();
  #wake: (() => void) | undefined;
  #ended = false;
  #error: AxonClientError | undefined;
  #asked = { after: -1, epoch: 0, at: 0 };
  #askTimer: ReturnType<typeof setTimeout> | undefined;
  #quietTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(line: TurnLine) {
    this.#line = line;
    this.#finished.promise.catch(() => {});
    this.remindIn(line.quietMs);
  }

  get progress(): TurnProgress {
    return { after: this.#applied, epoch: this.#epoch, text: this.#whole() };
  }

  /** Begins with what another client has read. */
  startFrom({ after, epoch, text }: TurnProgress): void {
    if (after > 0) this.#pieces.push({ to: after, epoch, text });
  }

  accept({ requestId: _, ...accepted }: AcceptedFrame): void {
    this.#heard();
    this.turnId = accepted.turnId;
    this.conversationId = accepted.conversationId;
    this.#push(accepted);
    if (this.cancelRequested) this.cancel();
  }

  apply(frame: TurnFrame): void {
    if (frame.type === "tokens") this.#extend(frame);
    else if (frame.type === "rewind") this.#rewind(frame.to);
    else this.#conclude(frame);
  }

  fail(error: AxonClientError): void {
    if (this.#ended) return;
    this.#error = error;
    this.#end();
    this.#finished.reject(error);
  }

  cancel(): void {
    this.cancelRequested = true;
    if (this.turnId !== undefined && !this.#ended) {
      this.#line.send({ action: "cancel", turnId: this.turnId });
    }
  }

  text(): Promise<string> {
    return this.#finished.promise;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TurnUpdate, void> {
    try {
      for (;;) {
        for (let next = this.#updates.shift(); next; next = this.#updates.shift()) yield next;
        if (this.#error !== undefined) throw this.#error;
        if (this.#ended) return;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } finally {
      // Whoever stops listening has not stopped the turn.
      this.#leave();
    }
  }

  /** Asks for all after the last token applied. */
  ask(): void {
    const [after, epoch] = [this.#applied, this.#epoch];
    this.#asked = { after, epoch, at: Date.now() };
    this.#line.send({ action: "resume", turnId: this.turnId, after, epoch });
  }

  /** Reminds the server after `ms`, unless something is heard before. */
  remindIn(ms: number): void {
    clearTimeout(this.#quietTimer);
    this.#quietTimer = setTimeout(() => {
      this.reminders++;
      this.remindIn(this.#line.quietMs * Math.min(mostQuietFactor, 2 ** this.reminders));
      this.#line.remind(this);
    }, ms);
    unref(this.#quietTimer);
  }

  get #applied(): number {
    return this.#pieces.at(-1)?.to ?? 0;
  }

  get #epoch(): number {
    return this.#pieces.at(-1)?.epoch ?? 0;
  }

  #extend({ from, to, text, epoch }: TokensFrame): void {
    // What a process of the past still says is no sign that anybody serves this turn.
    if (epoch > 0 && epoch < this.#epoch) return;
    this.#heard();
    if (from <= this.#applied && epoch > this.#epoch) {
      // Another leader may have written other tokens in these places. Those here are given up, not
      // just asked about: whatever is on its way behind this frame must not be joined to them.
      this.#cut(from - 1);
      this.#askForMissing();
    } else if (from === this.#applied + 1) {
      this.#pieces.push({ to, text, epoch });
      this.#push({ type: "text", text, from, to });
    } else if (to > this.#applied) {
      this.#askForMissing();
    }
  }

  #rewind(to: number): void {
    this.#heard();
    this.#cut(to);
    // A piece cannot be cut between its tokens: what was dropped of it is asked for again.
    if (this.#applied < to) this.#askForMissing();
  }

  #cut(to: number): void {
    if (to >= this.#applied) return;
    while (this.#applied > to) this.#pieces.pop();
    this.#push({ type: "rewind", text: this.#whole(), to: this.#applied });
  }

  #conclude(frame: DoneFrame): void {
    this.#heard();
    const own = this.#epoch;
    const isWhole = frame.lastSeq === this.#applied;
    if (isWhole && (frame.epoch === 0 || own === 0 || frame.epoch === own)) {
      this.#finish(frame);
      return;
    }
    // The record has lost the leader that we heard last: nothing that is here can be compared with it.
    if (isWhole && frame.epoch < own) this.#cut(0);
    this.#askForMissing();
  }

  /** Asks, but not again and again for the same. */
  #askForMissing(): void {
    const { after, epoch, at } = this.#asked;
    const isSame = after === this.#applied && epoch === this.#epoch;
    const waitMs = isSame ? at + askAgainMs - Date.now() : 0;
    if (waitMs <= 0) {
      this.ask();
      return;
    }
    this.#askTimer ??= setTimeout(() => {
      this.#askTimer = undefined;
      if (this.#asked.after === this.#applied) this.#askForMissing();
    }, waitMs);
    unref(this.#askTimer);
  }

  #finish({ turnId: _, ...done }: DoneFrame): void {
    const text = this.#whole();
    this.#push({ ...done, text });
    this.#end();
    if (done.error === undefined) this.#finished.resolve(text);
    else this.#finished.reject(new AxonClientError(done.error.code, done.error.message));
  }

  #whole(): string {
    return this.#pieces.map((piece) => piece.text).join("");
  }

  #heard(): void {
    if (this.#ended) return;
    this.reminders = 0;
    this.remindIn(this.#line.quietMs);
  }

  #push(update: TurnUpdate): void {
    if (this.#ended) return;
    this.#updates.push(update);
    this.#wake?.();
  }

  #end(): void {
    this.#ended = true;
    this.#leave();
    this.#wake?.();
  }

  #leave(): void {
    clearTimeout(this.#askTimer);
    clearTimeout(this.#quietTimer);
    this.#line.leave(this);
  }
}

/** The socket keeps a program alive while a turn is followed; a timer of it never does so alone. */
function unref(timer: unknown): void {
  (timer as { unref?(): void }).unref?.();
}
