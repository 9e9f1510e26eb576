import { type Job, type Report, reportDeduplicationId } from "../../events/jobs.ts";
import { travelMs, type World } from "./world.ts";

interface Message {
  job: Job;
  visibleAt: number;
  receives: number;
}

/** One delivery of a job; the message itself stands for its receipt. */
export interface Delivery {
  job: Job;
  receipt: Message;
  receiveCount: number;
}

export type Receipt = Message;

/** After so many receives a job is moved to the dead letters. */
const mostReceives = 5;

/** The queue of jobs: in no order, at least once, and, locally, gone with its process. */
export class JobQueue {
  readonly #world: World;
  readonly #messages = new Set<Message>();

  constructor(world: World) {
    this.#world = world;
  }

  get size(): number {
    return this.#messages.size;
  }

  send(job: Job): void {
    this.#messages.add({ job, visibleAt: this.#world.time.now, receives: 0 });
  }

  receive(most: number, visibilityMs: number): Delivery[] {
    const { time, random, weather } = this.#world;
    const visible = [...this.#messages].filter(
      ({ visibleAt }) => visibleAt <= time.now || random.chance(weather.secondDelivery),
    );
    const deliveries: Delivery[] = [];
    while (visible.length > 0 && deliveries.length < most) {
      const [message] = visible.splice(random.whole(0, visible.length - 1), 1);
      if (message === undefined) continue;
      message.receives++;
      message.visibleAt = time.now + visibilityMs;
      if (message.receives > mostReceives) this.#messages.delete(message);
      else deliveries.push({ job: message.job, receipt: message, receiveCount: message.receives });
    }
    return deliveries;
  }

  hide(receipts: readonly Receipt[], ms: number): void {
    for (const receipt of receipts) receipt.visibleAt = this.#world.time.now + ms;
  }

  delete(receipts: readonly Receipt[]): void {
    for (const receipt of receipts) this.#messages.delete(receipt);
  }

  loseAll(): void {
    this.#messages.clear();
  }
}

/** The queue of reports: in order for each turn, each of them once to those who send, and at least once out. */
export class ReportQueue {
  readonly #world: World;
  readonly #handle: (report: Report) => void;
  readonly #known = new Set<string>();
  readonly #waiting = new Map<string, Report[]>();

  constructor(world: World, handle: (report: Report) => void) {
    this.#world = world;
    this.#handle = handle;
  }

  get size(): number {
    return [...this.#waiting.values()].reduce((sum, { length }) => sum + length, 0);
  }

  send(report: Report): void {
    const id = reportDeduplicationId(report);
    if (this.#known.has(id)) return;
    this.#known.add(id);
    const group = this.#waiting.get(report.turnId) ?? [];
    this.#waiting.set(report.turnId, group);
    group.push(report);
    if (group.length === 1) this.#handleNext(group);
  }

  #handleNext(group: Report[]): void {
    const { time, random, weather } = this.#world;
    time.after(travelMs(this.#world) + random.between(1, 50), () => {
      const [report] = group;
      if (report === undefined) return;
      // A handler that dies before it has written, or after, is called again.
      const diesBefore = random.chance(weather.deadFunction);
      if (!diesBefore) this.#handle(report);
      if (!diesBefore && !random.chance(weather.deadFunction)) group.shift();
      if (group.length > 0) this.#handleNext(group);
    });
  }
}
