import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "@aws-lambda-powertools/logger";
import { type RedisClient, redisClient } from "../events/redis-client.ts";
import { type FollowerConfig, followerConfig } from "./config.ts";
import { GroupError } from "./group-error.ts";
import { beatMs, followGroup } from "./group-roll.ts";
import { NcclGate } from "./nccl-gate.ts";
import { runProcess } from "./process.ts";
import { ProcessWatch } from "./process-watch.ts";
import { defineScripts } from "./scripts.ts";

/**
 * The sidecar of a node of a group that is not its leader's. It says to the leader once a second that the
 * engine's processes here live, with the epoch of the group, and at once when they do not.
 *
 * - waiting: for the engine's processes, and for a leader that forms a group. A leader that is ready
 *   already leads a group that this node is not part of. Exits: joined; over.
 * - joined: it beats with the leader's epoch. While the group forms, it moves on to a newer epoch: the
 *   leader's first attempt may have ended before this node was there. Exits: member; over.
 * - member: the leader has been ready with this node. Exits: over, also by a newer epoch, since the engine's
 *   processes here belong to the group that is no more.
 * - over: it says why, if the leader has to know, and ends; Kubernetes then forms the whole group anew.
 */
const help = `
node dataplane/follower.ts: the heartbeat of a node that follows the leader of its group.

It is configured by the environment:
  REDIS_URL          where the group's roll is
  AXON_GROUP_ID      the group
  AXON_RANK          this node's rank among the nodes, from 1
  AXON_WATCH         what the command lines of the processes look like that have to live, a regular
                     expression (default: those of vLLM)
  AXON_NCCL_LOGS     the folder of NCCL_DEBUG_FILE: ends the group if NCCL does not use EFA
  AXON_DRAIN_MS      after SIGTERM, time for the leader to end its turns (default 10000)
  LOG_LEVEL          DEBUG, INFO, WARN or ERROR
`;

/** Why the follower ends: the leader has closed the group, or a failure. */
type End = "closed" | GroupError;

class Follower {
  readonly #config: FollowerConfig;
  readonly #redis: RedisClient;
  readonly #logger: Logger;
  readonly #processes: ProcessWatch;
  readonly #gate: NcclGate | undefined;
  #hasEngine = false;
  /** 0 while waiting. */
  #epoch = 0;
  #isMember = false;
  /** NCCL has been found to use EFA here; it does not change its mind. */
  #hasPassed = false;
  #count = 0;

  constructor(config: FollowerConfig, redis: RedisClient, logger: Logger) {
    this.#config = config;
    this.#redis = redis;
    this.#logger = logger;
    this.#processes = new ProcessWatch(config.AXON_WATCH);
    if (config.AXON_NCCL_LOGS !== undefined) this.#gate = new NcclGate(config.AXON_NCCL_LOGS);
  }

  /** Beats until the group is over. */
  async run(): Promise<End> {
    let beatenAt = Number.NEGATIVE_INFINITY;
    for (;;) {
      const isTime = performance.now() - beatenAt >= beatMs;
      const gone = this.#engineGone() ?? (isTime ? await this.#networkGone() : undefined);
      if (gone !== undefined) {
        await this.#beat(gone.message);
        return gone;
      }
      if (isTime) {
        beatenAt = performance.now();
        const end = await this.#beat();
        if (end !== undefined) return end;
      }
      // Processes are looked at more often than the heart beats: what is gone is said at once.
      await sleep(beatMs / 5);
    }
  }

  #engineGone(): GroupError | undefined {
    const engine = this.#processes.look(this.#isMember);
    this.#hasEngine = engine !== "none";
    return typeof engine === "string" ? undefined : new GroupError("follower_lost", engine.gone);
  }

  async #networkGone(): Promise<GroupError | undefined> {
    if (this.#hasPassed || this.#gate === undefined) return undefined;
    try {
      if (this.#isMember) await this.#gate.pass();
      else await this.#gate.check();
      this.#hasPassed = this.#isMember;
      return undefined;
    } catch (error) {
      return error as GroupError;
    }
  }

  async #beat(gone?: string): Promise<End | undefined> {
    if (!this.#hasEngine) return undefined;
    this.#count += 1;
    const beat = { epoch: this.#epoch, count: this.#count, ...(gone !== undefined && { gone }) };
    const { AXON_GROUP_ID: groupId, AXON_RANK: rank } = this.#config;
    const lead = await followGroup(this.#redis, groupId, { rank, beat });
    // A Redis that has lost the group's roll hears of it again from the leader.
    if (lead.state === "none") return undefined;
    if (lead.epoch === this.#epoch) {
      this.#isMember ||= lead.state === "ready";
      return lead.state === "closed" ? "closed" : undefined;
    }
    if (this.#isMember) return new GroupError("superseded", "The group has been formed anew.");
    if (lead.state !== "forming" || gone !== undefined) return undefined;
    this.#epoch = lead.epoch;
    this.#logger.info("joins", { epoch: this.#epoch });
    return this.#beat();
  }
}

async function start(logger: Logger) {
  const config = followerConfig(process.env);
  const { AXON_GROUP_ID: groupId, AXON_RANK: rank } = config;
  logger.appendKeys({ groupId, rank });
  const redis = redisClient(config.REDIS_URL, { maxRetriesPerRequest: null });
  redis.on("error", (error) => logger.warn("Redis is away", { error }));
  defineScripts(redis);
  const ended = new Follower(config, redis, logger).run();
  ended.then((end) => {
    if (end === "closed") process.exit(0);
    logger.critical("the group is over", { error: end });
    process.exit(1);
  });
  return {
    ready: { role: "follower", groupId, rank },
    /** The engine here is needed as long as the leader has turns. */
    async drain() {
      await Promise.race([ended, sleep(config.AXON_DRAIN_MS)]);
      redis.disconnect();
    },
  };
}

await runProcess({
  start,
  help,
  serviceName: "axon-follower",
  logLevel: () => followerConfig(process.env).LOG_LEVEL,
});
