import fc from "fast-check";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { connect } from "../../client/client.ts";
import type { ClientFrame, ServerFrame } from "../../events/frames.ts";
import { accepted, done, rewind, tokens } from "./scripted-server.ts";

/**
 * Timelines of one turn: leaders that die and are replaced while the stream loses its last tokens,
 * connections that drop with all that is on its way, frames that come again later. Whatever happens,
 * the client ends with the record's text.
 */

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** A WebSocket without a network: what is sent lies in `requests` until the model reads it. */
class ModelSocket {
  static latest: ModelSocket | undefined;
  readyState = 0;
  requests: ClientFrame[] = [];
  onopen: (() => void) | undefined;
  onclose: (() => void) | undefined;
  onmessage: ((message: { data: string }) => void) | undefined;

  constructor() {
    ModelSocket.latest = this;
    setTimeout(() => {
      if (this.readyState !== 0) return;
      this.readyState = 1;
      this.onopen?.();
    }, 5);
  }

  send(data: string): void {
    this.requests.push(JSON.parse(data) as ClientFrame);
  }

  close(): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose?.();
  }
}

/** The record of one turn, and the relay that tells it to the latest connection, as Axon's does. */
class ModelServer {
  readonly record: { text: string; epoch: number }[] = [];
  epoch = 1;
  sealed = false;
  expired = false;
  turnId = "";
  /** On their way to the client. */
  frames: ServerFrame[] = [];
  /** Everything that was ever on its way. */
  readonly said: ServerFrame[] = [];
  #socket: ModelSocket | undefined;
  #watcher: { sent: number; epoch: number; endSent: boolean } | undefined;

  write(count: number): void {
    if (this.sealed) return;
    for (let i = 0; i < count; i++) {
      this.record.push({ text: `${this.record.length + 1}/${this.epoch} `, epoch: this.epoch });
    }
  }

  takeOver(lost: number): void {
    if (this.sealed) return;
    this.record.length = Math.max(0, this.record.length - lost);
    this.epoch++;
  }

  drop(): void {
    this.frames = [];
    this.#watcher = undefined;
    this.#socket?.close();
  }

  /** Reads what the client has asked. */
  read(): void {
    if (ModelSocket.latest !== this.#socket) {
      this.frames = [];
      this.#watcher = undefined;
      this.#socket = ModelSocket.latest;
    }
    for (const frame of this.#socket?.requests.splice(0) ?? []) this.#answer(frame);
  }

  /** Says the next thing, if there is any. */
  say(most: number): boolean {
    const watcher = this.#watcher;
    if (watcher === undefined || this.expired) return false;
    const { sent, epoch } = watcher;
    const kept =
      sent === 0 || epoch === 0
        ? sent
        : this.record.slice(0, sent).findLastIndex((token) => token.epoch <= epoch) + 1;
    if (kept < sent) {
      watcher.sent = kept;
      this.#send(rewind(this.turnId, kept));
      return true;
    }
    const next = this.record.slice(sent, sent + most);
    if (next.length > 0) {
      this.#sendTokens(sent + 1, next, next.at(-1)?.epoch ?? 0);
      watcher.sent += next.length;
      watcher.epoch = next.at(-1)?.epoch ?? 0;
      return true;
    }
    if (!this.sealed || watcher.endSent) return false;
    watcher.endSent = true;
    this.#send(done(this.turnId, sent, this.record.at(-1)?.epoch ?? 0));
    return true;
  }

  deliver(): boolean {
    const frame = this.frames.shift();
    if (frame === undefined || this.#socket?.readyState !== 1) return false;
    this.#socket.onmessage?.({ data: JSON.stringify(frame) });
    return true;
  }

  /** A relay that was replaced sends once more what it had sent. */
  repeat(back: number): void {
    const told = this.said.filter(({ type }) => type === "tokens");
    const frame = told.at(-1 - (back % Math.max(1, told.length)));
    if (frame !== undefined) this.frames.push(frame);
  }

  #answer(frame: ClientFrame): void {
    if (frame.action === "chat") {
      this.turnId = `turn-${frame.requestId}`;
      this.#send(accepted(frame.requestId));
      this.#watch(0, 0);
    } else if (frame.action === "resume") {
      this.#watch(frame.after, frame.epoch);
    }
  }

  #watch(after: number, epoch: number): void {
    const from = Math.min(after, this.expired ? 0 : this.record.length);
    if (from < after) this.#send(rewind(this.turnId, from));
    this.#watcher = { sent: from, epoch, endSent: false };
    if (!this.expired) return;
    const half = Math.ceil(this.record.length / 2);
    if (half > 0) this.#sendTokens(1, this.record.slice(0, half), 0);
    if (half < this.record.length) this.#sendTokens(half + 1, this.record.slice(half), 0);
    this.#send(done(this.turnId, this.record.length, 0));
  }

  #sendTokens(from: number, said: { text: string }[], epoch: number): void {
    const text = said.map((token) => token.text).join("");
    this.#send(tokens(this.turnId, from, from + said.length - 1, { epoch, text }));
  }

  #send(frame: ServerFrame): void {
    this.frames.push(frame);
    this.said.push(frame);
  }
}

const small = fc.integer({ min: 1, max: 5 });
const event = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("write"), n: small }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("say"), n: small }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("deliver"), n: small }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("read"), n: small }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("takeOver"), n: fc.integer({ min: 0, max: 6 }) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("repeat"), n: fc.nat(8) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("drop"), n: small }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("wait"), n: small }) },
);
type Event = { do: string; n: number };

async function happen(server: ModelServer, { do: what, n }: Event): Promise<void> {
  if (what === "write") server.write(n);
  else if (what === "say") server.say(n);
  else if (what === "read") server.read();
  else if (what === "takeOver") server.takeOver(n);
  else if (what === "repeat") server.repeat(n);
  else if (what === "drop") server.drop();
  else if (what === "wait") await vi.advanceTimersByTimeAsync(n * 300);
  else for (let i = 0; i < n; i++) server.deliver();
}

test("whatever leaders, relays and connections do, the reader ends with the record's text", async () => {
  const timeline = fc.record({ events: fc.array(event, { maxLength: 40 }), expires: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(timeline, async ({ events, expires }) => {
      ModelSocket.latest = undefined;
      const server = new ModelServer();
      const client = connect({
        ...{ url: "ws://model/", credential: "key" },
        webSocket: ModelSocket as unknown as typeof WebSocket,
      });
      const turn = client.chat({ prompt: "x" });
      let told = "";
      let ended = false;
      const reading = (async () => {
        for await (const update of turn) {
          if (update.type === "text") told += update.text;
          else if (update.type === "rewind") told = update.text;
        }
        ended = true;
      })();
      await vi.advanceTimersByTimeAsync(5);
      server.read();
      for (const event of events) await happen(server, event);
      server.sealed = true;
      if (expires) server.drop();
      server.expired = expires;
      for (let rounds = 0; !ended && rounds < 200; rounds++) {
        server.read();
        while (server.say(3));
        while (server.deliver());
        await vi.advanceTimersByTimeAsync(500);
      }
      expect(ended).toBe(true);
      await reading;
      const text = server.record.map((token) => token.text).join("");
      expect(await turn.text()).toBe(text);
      expect(told).toBe(text);
      client.close();
      expect(vi.getTimerCount()).toBe(0);
    }),
    { numRuns: Number(process.env["RUNS"] ?? 500) },
  );
}, 120_000);
