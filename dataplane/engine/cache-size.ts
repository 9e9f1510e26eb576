import type { ModelConfig } from "./checkpoint/model-config.ts";
import { EngineError } from "./engine-error.ts";
import { pagePositions, pagesFor } from "./model/page-layout.ts";
import { keyValueCopies } from "./model/shard.ts";

/** For keys and values, when nothing is said: memory is taken only as it is used. */
const usualCacheBytes = 1 << 30;

export interface CacheOptions {
  ranks: number;
  slots: number;
  contextLength: number;
  cacheBytes?: number;
}

/**
 * Pages of keys and values that a group has: enough for all slots at full length, as far as memory
 * allows. Throws EngineError "invalid_request" when it is not enough for one.
 */
export function cachePages(config: ModelConfig, options: CacheOptions): number {
  const { ranks, slots, contextLength } = options;
  const floats = 2 * config.layers * keyValueCopies(config, ranks) * config.headSize;
  const pageBytes = floats * pagePositions * 4;
  const least = pagesFor(contextLength);
  const cacheBytes = options.cacheBytes ?? Math.max(usualCacheBytes, least * pageBytes);
  const pages = Math.min(slots * least, Math.floor(cacheBytes / pageBytes));
  if (pages >= least) return pages;
  throw new EngineError(
    "invalid_request",
    `A context of ${contextLength} tokens takes ${least * pageBytes} bytes of keys and values; ` +
      `cacheBytes is ${cacheBytes}. Give more, or shorten the context.`,
  );
}
