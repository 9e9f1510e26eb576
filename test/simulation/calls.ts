import { backoffMs } from "../../dataplane/backoff.ts";
import type { Process, Task } from "./process.ts";
import { travelMs, type World } from "./world.ts";

/** A call over the network to something that stays up; without an answer it is made again. */
export function* retried<T>(world: World, process: Process, execute: () => T): Task<T> {
  for (let failures = 0; ; failures++) {
    const attempt = yield* tried(world, process, execute);
    if (attempt !== "failed") return attempt.reply;
    yield* process.sleep(backoffMs(failures, 50, 2_000));
  }
}

/** One call: where its answer is lost it may have been done, or not. */
export function* tried<T>(
  world: World,
  process: Process,
  execute: () => T,
): Task<{ reply: T } | "failed"> {
  const { random, weather } = world;
  const isLost = random.chance(weather.lostAnswer);
  yield* process.sleep(travelMs(world));
  const reply = isLost && random.chance(0.5) ? undefined : { reply: execute() };
  yield* process.sleep(travelMs(world));
  return isLost || reply === undefined ? "failed" : reply;
}
