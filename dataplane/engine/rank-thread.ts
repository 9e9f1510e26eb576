/** A rank above 0, in a thread of the leader's process. It joins by the memory that it is given. */

import { workerData } from "node:worker_threads";
import { Checkpoint } from "./checkpoint/checkpoint.ts";
import { SharedMemoryCollective } from "./collectives/shared-memory.ts";
import { toEngineError } from "./engine-error.ts";
import { follow } from "./follower.ts";
import type { RankThreadOptions } from "./rank-messages.ts";

const { modelDir, rank, ranks, memory }: RankThreadOptions = workerData;

try {
  const checkpoint = await Checkpoint.open(modelDir);
  await follow(checkpoint, new SharedMemoryCollective(memory, rank, ranks));
} catch (error) {
  if (toEngineError(error).code !== "closed") throw error;
}
