import type { AcceptedFrame, DoneFrame, RewindFrame, TokensFrame } from "../events/frames.ts";
import { AxonClientError } from "./errors.ts";

/** What happens to a turn, in the order in which it happens. */
export type TurnUpdate =
  | { type: "accepted"; turnId: string; conversationId: string; model: string; revision: string }
  /** The answer goes on with `text`: tokens `from` to `to`. */
  | { type: "text"; text: string; from: number; to: number }
  /** The answer so far is `text`, up to token `to`; what was beyond it does not count. */
  | { type: "rewind"; text: string; to: number }
  /** The last update. `text` is the whole answer. */
  | (Omit<DoneFrame, "turnId"> & { text: string });

/** A turn as a program sees it: iterate over it, or wait for its text. */
export interface Turn extends AsyncIterable<TurnUpdate> {
  /** Known once the turn is accepted. */
  readonly turnId: string | undefined;
  readonly conversationId: string | undefined;
  /** The whole answer, when it has ended. Rejects with AxonClientError when the turn fails. */
  text(): Promise<string>;
  /** Ends the turn. What was said until then stays; the last update says `cancelled`. */
  cancel(): void;
}

export type TurnFrame = TokensFrame | RewindFrame | DoneFrame;

/** A gap that stays is asked about again after this long. */
const askAgainMs = 1_000;

/**
 * Follows one turn by its sequence numbers: a frame that comes next is applied, one that was applied
 * is skipped, and one that leaves a gap makes it ask for what is missing.
 */
export class FollowedTurn implements Turn {
  turnId: string | undefined;
  conversationId: string | undefined;
  /** The last sequence number applied. */
  applied = 0;
  cancelRequested = false;
  readonly #pieces: { to: number; text: string }[] = [];
  readonly #updates: TurnUpdate[] = [];
  readonly #finished = Promise.withResolvers<string>();
  readonly #leave: (turn: FollowedTurn) => void;
  readonly #send: (frame: object) => void;
  #wake: (() => void) | undefined;
  #ended = false;
  #error: AxonClientError | undefined;
  #asked = { after: -1, at: 0 };
  #askLater: ReturnType<typeof setTimeout> | undefined;

  constructor(send: (frame: object) => void, leave: (turn: FollowedTurn) => void) {
    this.#send = send;
    this.#leave = leave;
    this.#finished.promise.catch(() => {});
  }

  accept({ turnId, conversationId, model, revision }: AcceptedFrame): void {
    if (this.turnId !== undefined) return;
    this.turnId = turnId;
    this.conversationId = conversationId;
    this.#push({ type: "accepted", turnId, conversationId, model, revision });
    if (this.cancelRequested) this.cancel();
  }

  apply(frame: TurnFrame): void {
    if (frame.type === "tokens") {
      this.#extend(frame);
    } else if (frame.type === "rewind") {
      this.#rewind(frame.to);
    } else if (frame.lastSeq > this.applied) {
      this.#askForMissing();
    } else {
      this.#finish(frame);
    }
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
      this.#send({ action: "cancel", turnId: this.turnId });
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
      this.#leave(this);
    }
  }

  #extend({ from, to, text }: TokensFrame): void {
    if (to <= this.applied) return;
    if (from !== this.applied + 1) {
      this.#askForMissing();
      return;
    }
    this.applied = to;
    this.#pieces.push({ to, text });
    this.#push({ type: "text", text, from, to });
  }

  #rewind(to: number): void {
    if (to >= this.applied) return;
    while ((this.#pieces.at(-1)?.to ?? 0) > to) this.#pieces.pop();
    this.applied = this.#pieces.at(-1)?.to ?? 0;
    this.#push({ type: "rewind", text: this.#whole(), to: this.applied });
    // A piece cannot be cut between its tokens: what was dropped of it is asked for again.
    if (this.applied < to) this.#askForMissing();
  }

  /** Tokens are missing: asks for all after the last one applied, but not again and again. */
  #askForMissing(): void {
    const waitMs =
      this.#asked.after === this.applied ? this.#asked.at + askAgainMs - Date.now() : 0;
    if (waitMs > 0) {
      this.#askLater ??= setTimeout(() => {
        this.#askLater = undefined;
        if (!this.#ended && this.#asked.after === this.applied) this.#askForMissing();
      }, waitMs);
      return;
    }
    this.#asked = { after: this.applied, at: Date.now() };
    this.#send({ action: "resume", turnId: this.turnId, after: this.applied });
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

  #push(update: TurnUpdate): void {
    if (this.#ended) return;
    this.#updates.push(update);
    this.#wake?.();
  }

  #end(): void {
    this.#ended = true;
    clearTimeout(this.#askLater);
    this.#leave(this);
    this.#wake?.();
  }
}
