import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { Answer, Order } from "./lambda-runtime.ts";

/** Inside of the project, so that what a bundle leaves out is found where it was installed. */
export const bundlesFolder = join(import.meta.dirname, "..", "..", ".axon", "bundles");

const runtime = join(import.meta.dirname, "lambda-runtime.ts");

/** An execution environment of Lambda: one process that has loaded one bundle, and can be frozen. */
export class LambdaProcess {
  /** What loading the bundle took, in ms. */
  readonly initMs: number;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #output: string;
  #lastId = 0;

  private constructor(child: ChildProcess, initMs: number, output: string) {
    this.#child = child;
    this.initMs = initMs;
    this.#output = output;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (chunk: Buffer) => {
        this.#output += chunk.toString();
      });
    }
    child.on("message", (answer: Answer) => this.#hear(answer));
    child.once("exit", (code, signal) => {
      for (const { reject } of this.#waiting.values()) {
        reject(new Error(`The process ended: ${signal ?? code}.`));
      }
      this.#waiting.clear();
    });
  }

  /** Starts a process that has this environment and nothing else of ours. */
  static async start(file: string, env: Record<string, string>): Promise<LambdaProcess> {
    const child = fork(runtime, [file], {
      silent: true,
      env: {
        PATH: process.env["PATH"] ?? "",
        NODE_OPTIONS: "--enable-source-maps",
        AWS_REGION: "us-east-1",
        AWS_ACCESS_KEY_ID: "test",
        AWS_SECRET_ACCESS_KEY: "test",
        ...env,
      },
    });
    let output = "";
    const note = (chunk: Buffer) => {
      output += chunk.toString();
    };
    child.stdout?.on("data", note);
    child.stderr?.on("data", note);
    const ended = once(child, "exit").then(() => {
      throw new Error(`The bundle cannot be loaded: ${output}`);
    });
    const [answer] = (await Promise.race([once(child, "message"), ended])) as [Answer];
    ended.catch(() => {});
    child.stdout?.off("data", note);
    child.stderr?.off("data", note);
    return new LambdaProcess(child, answer.kind === "loaded" ? answer.initMs : Number.NaN, output);
  }

  /** All that it has written so far: its log. */
  get log(): string {
    return this.#output;
  }

  /** @throws what the handler throws, or that the process has ended. */
  invoke(event: unknown, timeoutMs = 29_000): Promise<unknown> {
    const id = ++this.#lastId;
    const result = Promise.withResolvers<unknown>();
    this.#waiting.set(id, result);
    this.#tell({ kind: "invoke", id, event, timeoutMs });
    return result.promise;
  }

  /** Changes its environment variables, which Lambda itself would do with a new process. */
  set(values: Record<string, string>): void {
    this.#tell({ kind: "environment", values });
  }

  /** As Lambda does between two invocations: nothing runs, and the sockets stay as they are. */
  freeze(): void {
    this.#child.kill("SIGSTOP");
  }

  thaw(): void {
    this.#child.kill("SIGCONT");
  }

  /** Ends it at once, whatever it is doing: as Lambda does when the time is up. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
  }

  async stop(): Promise<void> {
    await this.kill();
  }

  #tell(order: Order): void {
    this.#child.send(order);
  }

  #hear(answer: Answer): void {
    if (answer.kind === "loaded") return;
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if (answer.kind === "result") waiting?.resolve(answer.result);
    else waiting?.reject(Object.assign(new Error(answer.error.message), answer.error));
  }
}
