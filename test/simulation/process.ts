import type { Timer, VirtualTime } from "./virtual-time.ts";

/** What a task waits for: it says whom to tell. */
type Wait = (resume: () => void) => void;

/** Code that waits, written down as it would be with `await`: `yield*` takes its place. */
export type Task<T = void> = Generator<Wait, T, void>;

/**
 * A process that can die, with all that it was about to do, or be stopped as by SIGSTOP: what would have
 * happened meanwhile happens when it goes on, in order.
 */
export class Process {
  readonly name: string;
  readonly #time: VirtualTime;
  #alive = true;
  #paused = false;
  #held: (() => void)[] = [];

  constructor(name: string, time: VirtualTime) {
    this.name = name;
    this.#time = time;
  }

  get alive(): boolean {
    return this.#alive;
  }

  get paused(): boolean {
    return this.#paused;
  }

  die(): void {
    this.#alive = false;
    this.#held = [];
  }

  pause(): void {
    this.#paused = true;
  }

  goOn(): void {
    this.#paused = false;
    for (const run of this.#held.splice(0)) this.wake(run);
  }

  /** Lets something happen in this process, now or when it can. */
  wake(run: () => void): void {
    if (!this.#alive) return;
    if (this.#paused) this.#held.push(run);
    else run();
  }

  after(ms: number, run: () => void): Timer {
    return this.#time.after(ms, () => this.wake(run));
  }

  /** Does a task every `ms`, as setInterval would, but never twice at once. */
  every(ms: number, task: () => Task): void {
    let busy = false;
    const tick = () => {
      this.after(ms, tick);
      if (busy) return;
      busy = true;
      this.spawn(
        (function* () {
          yield* task();
          busy = false;
        })(),
      );
    };
    this.after(ms, tick);
  }

  spawn(task: Task): void {
    const { done, value } = task.next();
    if (done !== true) value(() => this.wake(() => this.spawn(task)));
  }

  *sleep(ms: number): Task {
    yield (resume) => void this.#time.after(ms, resume);
  }
}

/** Something that tasks wait for, once. */
export class Latch {
  #open = false;
  readonly #waiting: (() => void)[] = [];

  get isOpen(): boolean {
    return this.#open;
  }

  open(): void {
    this.#open = true;
    for (const resume of this.#waiting.splice(0)) resume();
  }

  *passed(): Task {
    if (!this.#open) yield (resume) => void this.#waiting.push(resume);
  }
}
