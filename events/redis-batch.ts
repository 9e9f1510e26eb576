import type { ChainableCommander } from "ioredis";
import { Cluster } from "ioredis";
import type { RedisClient } from "./redis-client.ts";

/** Adds commands to a pipeline. */
type Fill = (pipeline: ChainableCommander) => void;

/**
 * Commands that are sent together. One server gets all of them in one round trip, in their order. In a
 * cluster the keys of a pipeline have to lie on one node, and it is only sent again as a whole after a
 * redirection when none of it was done: so there is a pipeline for each hash tag there, all sent at the
 * same time, in no order among them but what `next` says.
 */
export class RedisBatch {
  readonly #redis: RedisClient;
  readonly #isCluster: boolean;
  /** Those of the current step, by hash tag. */
  readonly #pipelines = new Map<string, ChainableCommander>();
  readonly #steps: ChainableCommander[][] = [[]];
  /** Which replies of which pipeline are whose, in the order of adding. */
  readonly #parts: { pipeline: ChainableCommander; from: number; to: number }[] = [];

  constructor(redis: RedisClient) {
    this.#redis = redis;
    this.#isCluster = redis instanceof Cluster;
  }

  get length(): number {
    return this.#parts.length;
  }

  /** Adds commands, all of them about keys with the hash tag of `key`, or about none. */
  add(key: string, fill: Fill): this {
    const pipeline = this.#pipelineOf(this.#isCluster ? hashTagOf(key) : "");
    const from = pipeline.length;
    fill(pipeline);
    this.#parts.push({ pipeline, from, to: pipeline.length });
    return this;
  }

  /** What is added from here on takes effect after all before it. */
  next(): this {
    if (!this.#isCluster) return this;
    this.#pipelines.clear();
    this.#steps.push([]);
    return this;
  }

  /**
   * @returns the replies, in the order of adding.
   * @throws the first error among them; with one the steps after its own are not sent.
   */
  async exec(): Promise<unknown[]> {
    const replies = new Map<ChainableCommander, unknown[]>();
    for (const step of this.#steps) {
      const results = await Promise.all(step.map((pipeline) => pipeline.exec()));
      for (const [i, pipeline] of step.entries()) {
        replies.set(pipeline, repliesOf(results[i] ?? []));
      }
    }
    return this.#parts.flatMap(
      ({ pipeline, from, to }) => replies.get(pipeline)?.slice(from, to) ?? [],
    );
  }

  #pipelineOf(tag: string): ChainableCommander {
    const known = this.#pipelines.get(tag);
    if (known !== undefined) return known;
    const pipeline = this.#redis.pipeline();
    this.#pipelines.set(tag, pipeline);
    this.#steps.at(-1)?.push(pipeline);
    return pipeline;
  }
}

/** The part of a key that decides where it lies: https://redis.io/docs/reference/cluster-spec/#hash-tags */
function hashTagOf(key: string): string {
  return /\{([^}]+)\}/.exec(key)?.[1] ?? key;
}

function repliesOf(results: readonly [error: Error | null, reply: unknown][]): unknown[] {
  return results.map(([error, reply]) => {
    if (error !== null) throw error;
    return reply;
  });
}
