import { setTimeout as sleep } from "node:timers/promises";
import type { Engine, EngineEvent, GenerateRequest } from "./engine/engine.ts";

/**
 * The engine, no faster than a token every `msPerToken` in a turn: as slow as a large model, for seeing
 * and testing what happens in the middle of an answer.
 */
export function pacedEngine(engine: Engine, msPerToken: number): Engine {
  async function* generate(request: GenerateRequest): AsyncGenerator<EngineEvent> {
    for await (const event of engine.generate(request)) {
      if (event.type === "token") {
        await sleep(msPerToken, undefined, { signal: request.signal }).catch(() => {});
        // The engine may be far ahead. What it has drawn after the end that was asked for is not said.
        if (request.signal.aborted) {
          yield { type: "finish", reason: "cancelled" };
          return;
        }
      }
      yield event;
    }
  }
  return {
    generate,
    describe: () => engine.describe(),
    health: () => engine.health(),
    onFailure: (listener) => engine.onFailure(listener),
    close: () => engine.close(),
  };
}
