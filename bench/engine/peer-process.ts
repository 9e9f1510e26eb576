import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import type { z } from "zod";
import {
  type Command,
  loadedSchema,
  memorySchema,
  type Timed,
  type TimedCommand,
  timedSchema,
  writeCommand,
} from "./commands.ts";

/** What measures an engine: a program that speaks the language of commands.ts. */
export interface PeerProgram {
  /** As tables name it. */
  name: string;
  file: string;
  args: readonly string[];
}

/** No command takes longer on a machine that is worth measuring. */
const answerTimeoutMs = 180_000;
const closeTimeoutMs = 5_000;
const stderrLength = 2_000;

const alive = new Set<PeerProcess>();

/** At once, as when the bench is interrupted. */
export function killPeers(): void {
  for (const peer of alive) peer.kill();
}

/** A running peer. Between commands it waits in a read, and computes nothing. */
export class PeerProcess {
  readonly program: PeerProgram;
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #lines: AsyncIterator<string>;
  readonly #reader: Interface;
  readonly #exited: Promise<unknown>;
  #stderr = "";

  private constructor(program: PeerProgram) {
    this.program = program;
    this.#child = spawn(program.file, program.args, { stdio: ["pipe", "pipe", "pipe"] });
    this.#reader = createInterface({ input: this.#child.stdout });
    this.#lines = this.#reader[Symbol.asyncIterator]();
    this.#exited = once(this.#child, "close").catch((error: unknown) => {
      this.#stderr += String(error);
    });
    this.#child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-stderrLength);
    });
    // A peer that has died is noticed by its missing answer.
    this.#child.stdin.on("error", () => {});
    alive.add(this);
  }

  /** Resolves when it has loaded its model; with the time which that took. Throws when it dies. */
  static async start(program: PeerProgram): Promise<{ peer: PeerProcess; loadMs: number }> {
    const peer = new PeerProcess(program);
    const { loadMs } = await peer.#answer(loadedSchema);
    return { peer, loadMs };
  }

  /** Throws when the peer dies, or is silent for minutes. */
  async time(command: TimedCommand): Promise<Timed> {
    return this.#ask(command, timedSchema);
  }

  /** Bytes in memory beyond those at the start of its process. */
  async memoryBytes(): Promise<number> {
    const { bytes } = await this.#ask({ name: "memory" }, memorySchema);
    return bytes;
  }

  async close(): Promise<void> {
    this.#child.stdin.end();
    const timer = setTimeout(() => this.kill(), closeTimeoutMs);
    await this.#exited;
    clearTimeout(timer);
    alive.delete(this);
  }

  kill(): void {
    this.#child.kill("SIGKILL");
    alive.delete(this);
  }

  async #ask<T>(command: Command, schema: z.ZodType<T>): Promise<T> {
    this.#child.stdin.write(writeCommand(command));
    return this.#answer(schema);
  }

  async #answer<T>(schema: z.ZodType<T>): Promise<T> {
    const timer = setTimeout(() => this.kill(), answerTimeoutMs);
    const { value, done } = await this.#lines.next();
    clearTimeout(timer);
    if (done !== true) return schema.parse(JSON.parse(value));
    await this.#exited;
    alive.delete(this);
    throw new Error(`${this.program.name} ended without an answer. ${this.#stderr.trim()}`);
  }
}
