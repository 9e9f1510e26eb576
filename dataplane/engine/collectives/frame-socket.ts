/**
 * Frames over a TCP connection between two ranks: a header of 12 bytes, little-endian (payload length
 * u32, kind u32, sequence u32), then the payload.
 *
 * A connection is in one of these states:
 *   open      frames flow. Exits: watched, lost.
 *   watched   as open, and both sides send a heartbeat every 500 ms, so that a peer that is dead,
 *             frozen or unreachable is noticed by its silence. Exit: lost.
 *   lost      closed, by either side or by the watchdog: receiving throws. No exit.
 */

import type { Socket } from "node:net";
import { EngineError, type EngineErrorCode } from "../engine-error.ts";

const heartbeatMs = 500;
/**
 * Heartbeats that may be missed. They are counted in our own ticks, and each byte that arrives
 * starts the count anew: a rank that was busy itself reads what has arrived before it accuses anyone.
 */
const silentTicksAllowed = 4;

const headerBytes = 12;

export const frameKinds = {
  challenge: 1,
  hello: 2,
  welcome: 3,
  refused: 4,
  heartbeat: 5,
  goodbye: 6,
  broadcast: 7,
  partial: 8,
  sum: 9,
  slice: 10,
} as const;
export type FrameKind = keyof typeof frameKinds;

export interface Frame {
  kind: number;
  sequence: number;
  /** The payload is its first `bytes` bytes. */
  buffer: ArrayBuffer;
  bytes: number;
}

export interface FrameSocketOptions {
  /** Names the peer in errors. */
  peer: string;
  /** The code of the error when the connection is lost. */
  lostCode: EngineErrorCode;
}

export class FrameSocket {
  /** A frame that claims more ends the connection. Small until the peer has proved who it is. */
  maxPayloadBytes = 4096;
  peer: string;
  readonly #lostCode: EngineErrorCode;
  readonly #socket: Socket;
  readonly #arrived: Frame[] = [];
  #waiting: { resolve: (frame: Frame) => void; reject: (error: Error) => void } | undefined;
  #error: EngineError | undefined;
  #onLost: (error: EngineError) => void = () => {};
  #heartbeat: NodeJS.Timeout | undefined;
  #silentTicks = 0;
  /** Bytes of the header that is arriving. */
  readonly #header = Buffer.alloc(headerBytes);
  #headerFilled = 0;
  /** The frame whose payload is arriving, and how much of it is there. */
  #partial: Frame | undefined;
  #partialFilled = 0;
  #spare: ArrayBuffer | undefined;
  #sendBuffer = Buffer.alloc(headerBytes + 4096);

  constructor(socket: Socket, { peer, lostCode }: FrameSocketOptions) {
    this.#socket = socket;
    this.peer = peer;
    this.#lostCode = lostCode;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("error", (cause) => this.#lose(`the connection failed (${cause.message})`));
    socket.on("end", () => this.#lose("it closed the connection"));
    socket.on("close", () => this.#lose("the connection was closed"));
  }

  /** Called once when the connection is lost, at once if it is already. */
  onLost(listener: (error: EngineError) => void): void {
    this.#onLost = listener;
    if (this.#error !== undefined) listener(this.#error);
  }

  /** From now on both sides notice each other's silence. Both have to call it. */
  watch(): void {
    this.#heartbeat = setInterval(() => {
      this.#silentTicks += 1;
      if (this.#silentTicks > silentTicksAllowed) {
        this.#lose(`it was silent for ${silentTicksAllowed * heartbeatMs} ms`);
      } else {
        this.send("heartbeat", 0);
      }
    }, heartbeatMs);
  }

  /** Sends a copy of the payload, which may be changed as soon as this returns. */
  send(kind: FrameKind, sequence: number, payload: Uint8Array = new Uint8Array()): void {
    if (this.#error !== undefined) return;
    const bytes = headerBytes + payload.byteLength;
    // While the socket still holds on to earlier bytes, the buffer is not ours to overwrite.
    if (this.#socket.writableLength > 0 || this.#sendBuffer.byteLength < bytes) {
      this.#sendBuffer = Buffer.alloc(Math.max(bytes, this.#sendBuffer.byteLength));
    }
    this.#sendBuffer.writeUInt32LE(payload.byteLength, 0);
    this.#sendBuffer.writeUInt32LE(frameKinds[kind], 4);
    this.#sendBuffer.writeUInt32LE(sequence, 8);
    this.#sendBuffer.set(payload, headerBytes);
    this.#socket.write(this.#sendBuffer.subarray(0, bytes));
  }

  /** The next frame, heartbeats left out. Throws when the connection is lost. */
  receive(): Promise<Frame> {
    const frame = this.#arrived.shift();
    if (frame !== undefined) return Promise.resolve(frame);
    if (this.#error !== undefined) return Promise.reject(this.#error);
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  /** The next frame, which has to be this operation's: ranks that disagree must not go on. */
  async receiveFor(kind: FrameKind, sequence: number, bytes?: number): Promise<Frame> {
    const frame = await this.receive();
    const expected = frame.kind === frameKinds[kind] && frame.sequence === sequence;
    if (expected && (bytes === undefined || frame.bytes === bytes)) return frame;
    const wanted = `operation ${sequence} (${kind}, ${bytes ?? "any"} bytes)`;
    const found = `operation ${frame.sequence} (kind ${frame.kind}, ${frame.bytes} bytes)`;
    throw new EngineError("internal", `${this.peer} is at ${found}, and we are at ${wanted}.`);
  }

  /** Gives a frame's buffer back, for a frame to come. */
  recycle(frame: Frame): void {
    this.#spare = frame.buffer;
  }

  /** Closes the connection after what was sent. Receiving then throws `error`. */
  close(error: EngineError): void {
    if (this.#error !== undefined) return;
    this.#end(error);
    this.#socket.end();
  }

  #read(chunk: Buffer): void {
    this.#silentTicks = 0;
    let at = 0;
    while (at < chunk.length && this.#error === undefined) {
      if (this.#partial === undefined) {
        const take = Math.min(headerBytes - this.#headerFilled, chunk.length - at);
        chunk.copy(this.#header, this.#headerFilled, at, at + take);
        this.#headerFilled += take;
        at += take;
        if (this.#headerFilled < headerBytes) return;
        this.#headerFilled = 0;
        if (!this.#beginFrame()) return;
      } else {
        const take = Math.min(this.#partial.bytes - this.#partialFilled, chunk.length - at);
        const payload = new Uint8Array(this.#partial.buffer);
        payload.set(chunk.subarray(at, at + take), this.#partialFilled);
        this.#partialFilled += take;
        at += take;
      }
      if (this.#partial !== undefined && this.#partialFilled === this.#partial.bytes) {
        const frame = this.#partial;
        this.#partial = undefined;
        this.#deliver(frame);
      }
    }
  }

  /** Makes room for the payload that the header announces; false when it may not come. */
  #beginFrame(): boolean {
    const bytes = this.#header.readUInt32LE(0);
    if (bytes > this.maxPayloadBytes) {
      this.#lose(`it announced ${bytes} bytes; at most ${this.maxPayloadBytes} are allowed`);
      return false;
    }
    const fits = this.#spare !== undefined && this.#spare.byteLength >= bytes;
    const buffer = fits && this.#spare ? this.#spare : new ArrayBuffer(Math.max(bytes, 4096));
    if (fits) this.#spare = undefined;
    const kind = this.#header.readUInt32LE(4);
    this.#partial = { kind, sequence: this.#header.readUInt32LE(8), buffer, bytes };
    this.#partialFilled = 0;
    return true;
  }

  #deliver(frame: Frame): void {
    if (frame.kind === frameKinds.heartbeat) {
      this.recycle(frame);
    } else if (frame.kind === frameKinds.goodbye) {
      this.close(new EngineError("closed", `${this.peer} has closed the group.`));
    } else if (this.#waiting === undefined) {
      this.#arrived.push(frame);
    } else {
      const { resolve } = this.#waiting;
      this.#waiting = undefined;
      resolve(frame);
    }
  }

  #lose(reason: string): void {
    if (this.#error !== undefined) return;
    this.#end(new EngineError(this.#lostCode, `Lost ${this.peer}: ${reason}.`));
    this.#socket.destroy();
  }

  #end(error: EngineError): void {
    this.#error = error;
    clearInterval(this.#heartbeat);
    this.#waiting?.reject(error);
    this.#waiting = undefined;
    this.#onLost(error);
  }
}

/** The bytes of an array of numbers, not copied. */
export function bytesOf(values: Float32Array | Int32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
