import type { Engine, EngineEvent, GenerateRequest } from "../../dataplane/engine/engine.ts";
import { nowUs } from "./stamp.ts";

interface Running {
  left: number;
  events: EngineEvent[];
  wake: () => void;
}

/** Its turns step in so many groups, one after the other, as those of several models would. */
const phases = 10;

/**
 * An engine that computes nothing and says tokens at a steady pace, each the time at which it is said.
 * Late steps are made up for, as those of an engine that was not held up.
 */
export function steadyEngine(options: {
  tokensPerSecond: number;
  tokens: number;
  slots: number;
}): Engine {
  const { tokensPerSecond, tokens, slots } = options;
  const groups = Array.from({ length: phases }, () => new Set<Running>());
  const phaseMs = 1_000 / tokensPerSecond / phases;
  let next = 0;
  let dueAt = performance.now();
  let begun = 0;
  const timer = setInterval(() => {
    for (; dueAt <= performance.now(); dueAt += phaseMs) {
      for (const running of groups[next % phases] ?? []) step(running);
      next++;
    }
  }, 1);

  function step(running: Running): void {
    if (running.left-- > 0) running.events.push({ type: "token", token: nowUs() });
    else running.events.push({ type: "finish", reason: "stop" });
    running.wake();
  }

  async function* generate(request: GenerateRequest): AsyncGenerator<EngineEvent> {
    const left = tokens - request.emittedTokens.length;
    const running: Running = { left, events: [], wake: () => {} };
    const group = groups[begun++ % phases];
    group?.add(running);
    request.signal.addEventListener("abort", () => {
      running.events.push({ type: "finish", reason: "cancelled" });
      running.wake();
    });
    try {
      for (;;) {
        for (let event = running.events.shift(); event; event = running.events.shift()) {
          yield event;
          if (event.type === "finish") return;
        }
        await new Promise<void>((resolve) => {
          running.wake = resolve;
        });
      }
    } finally {
      group?.delete(running);
    }
  }

  return {
    generate,
    describe: () => ({
      ...{ model: "steady", contextLength: 100_000, ranks: 1, slots },
    }),
    health: () => ({
      ...{ state: "ready", runningTurns: 0, waitingTurns: 0, room: slots, ranks: [], steps: 0 },
      cache: { pages: 0, usedPages: 0, reusedTokens: 0, preemptions: 0 },
    }),
    onFailure: () => {},
    async close() {
      clearInterval(timer);
    },
  };
}
