import { type Client, connect, type Turn } from "../../client/client.ts";
import type { ClientFrame, DoneFrame, ServerFrame } from "../../events/frames.ts";
import { describe } from "./delivery.ts";
import { type Gateway, SimulatedSocket } from "./gateway.ts";
import type { Witness } from "./witness.ts";
import type { World } from "./world.ts";

export interface ReaderDeps {
  world: World;
  gateway: Gateway;
  witness: Witness;
}

/** Somebody who reads one turn with the real client, over a simulated socket. */
export class Reader {
  readonly name: string;
  readonly turn: Turn;
  /** The answer is whole, by the rules of docs/PROTOCOL.md. */
  hasEnded = false;
  /** Has closed the page before the end. */
  hasLeft = false;
  hasCancelled = false;
  /** What a program that waits for the text was told. */
  told: string | undefined;
  /** What it heard last made the client ask. */
  #hasAsked = false;
  /** A `done` that came before the client knew which turn is its own. */
  #early: DoneFrame | undefined;
  readonly #deps: ReaderDeps;
  readonly #client: Client;

  /** Asks a question, or, with a turn's id, follows what another has asked. */
  constructor(name: string, deps: ReaderDeps, turnId?: string) {
    this.name = name;
    this.#deps = deps;
    const owner = {
      name,
      sends: (frame: ClientFrame) => this.#sends(frame),
      hears: (frame: ServerFrame, deliver: (frame: ServerFrame) => void) =>
        this.#hears(frame, deliver),
    };
    class Socket extends SimulatedSocket {
      constructor() {
        super(deps.gateway, owner);
      }
    }
    const webSocket = Socket as unknown as typeof WebSocket;
    this.#client = connect({ url: "ws://axon/", credential: "key", webSocket });
    this.turn =
      turnId === undefined ? this.#client.chat({ prompt: "p" }) : this.#client.resume({ turnId });
    this.turn.text().then(
      (text) => {
        this.told = text;
      },
      () => {},
    );
  }

  get text(): string {
    return this.turn.progress.text;
  }

  cancel(): void {
    this.hasCancelled = true;
    this.turn.cancel();
  }

  /** Closes the page. */
  leave(): void {
    this.hasLeft = !this.hasEnded;
    this.#client.close();
  }

  get #ignoresEpochs(): boolean {
    return this.#deps.world.bugs.clientIgnoresEpochs === true;
  }

  #sends(frame: ClientFrame): ClientFrame {
    this.#hasAsked = true;
    return this.#ignoresEpochs && frame.action === "resume" ? { ...frame, epoch: 0 } : frame;
  }

  #hears(frame: ServerFrame, deliver: (frame: ServerFrame) => void): void {
    if (this.hasEnded || this.hasLeft) return;
    this.#hasAsked = false;
    const hasEpoch = frame.type === "tokens" || frame.type === "done";
    deliver(hasEpoch && this.#ignoresEpochs ? { ...frame, epoch: 0 } : frame);
    const { after, epoch, text } = this.turn.progress;
    this.#deps.world.log?.(this.name, `hears ${describe(frame)}; has ${after} of epoch ${epoch}`);
    const { turnId } = this.turn;
    if (turnId === undefined) {
      if (frame.type === "done") this.#early = frame;
      return;
    }
    const known = this.#ignoresEpochs ? undefined : epoch;
    this.#deps.witness.checkReader(this.name, turnId, { after, epoch: known, text });
    // The client keeps what comes before its `accepted`, and hears it then.
    const done = frame.type === "done" ? frame : this.#early;
    this.#early = undefined;
    if (done?.lastSeq !== after || this.#hasAsked) return;
    this.hasEnded = done.epoch === epoch || done.epoch === 0 || epoch === 0;
    if (this.hasEnded) this.#deps.world.log?.(this.name, `has the whole answer: "${text}"`);
  }
}
