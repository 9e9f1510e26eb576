import type { Logger } from "@aws-lambda-powertools/logger";
import type { RedisClient } from "../events/redis-client.ts";
import type { WorkerConfig } from "./config.ts";
import type { Engine } from "./engine/engine.ts";
import { FollowerWatch } from "./follower-watch.ts";
import { GroupError } from "./group-error.ts";
import { NcclGate } from "./nccl-gate.ts";
import { type ProbeServer, serveProbes } from "./probes.ts";
import { ProgressWatch } from "./progress-watch.ts";
import { RedisPulse } from "./redis-pulse.ts";

type GuardConfig = Pick<
  WorkerConfig,
  "AXON_FOLLOWERS" | "AXON_NCCL_LOGS" | "AXON_PROBES" | "AXON_STALL_MS"
>;

interface GuardDeps {
  redis: RedisClient;
  groupId: string;
  logger: Logger;
}

const lookMs = 1_000;
/** Once the engine answers, its followers have long been there. */
const presentMs = 30_000;

/**
 * Watches over a group from before its engine starts: the other nodes, the network between them, the
 * engine's progress. What it finds is the engine's failure to whoever uses the engine, and is what
 * Kubernetes hears by the probes.
 */
export class GroupGuard {
  readonly #followers: FollowerWatch | undefined;
  readonly #gate: NcclGate | undefined;
  readonly #progress: ProgressWatch;
  readonly #pulse: RedisPulse;
  readonly #failure = Promise.withResolvers<never>();
  readonly #timer: NodeJS.Timeout;
  #probeServer: ProbeServer | undefined;
  #engine: Engine | undefined;
  #failed: Error | undefined;
  #isDraining = false;
  #exposition: () => string | undefined = () => undefined;

  /** Probes answer, and followers are looked for, when it resolves. */
  static async open(config: GuardConfig, deps: GuardDeps): Promise<GroupGuard> {
    const guard = new GroupGuard(config, deps);
    await guard.#followers?.open(Date.now());
    if (config.AXON_PROBES !== undefined) {
      guard.#probeServer = await serveProbes(config.AXON_PROBES, guard);
    }
    return guard;
  }

  private constructor(config: GuardConfig, deps: GuardDeps) {
    const { AXON_FOLLOWERS: followers, AXON_NCCL_LOGS: logs, AXON_STALL_MS: stallMs } = config;
    this.#progress = new ProgressWatch({ stallMs, lookMs });
    this.#pulse = new RedisPulse(deps.redis);
    if (logs !== undefined) this.#gate = new NcclGate(logs);
    if (followers > 0) {
      this.#followers = new FollowerWatch({
        ...{ redis: deps.redis, groupId: deps.groupId, followers },
        now: () => performance.now(),
        onError: (error) =>
          deps.logger.warn("followers cannot be heard", { error: error as Error }),
      });
    }
    this.#failure.promise.catch(() => {});
    this.#followers?.failure.catch((error: Error) => this.#fail(error));
    this.#timer = setInterval(() => void this.#look(), lookMs);
  }

  /** Rejects when the group is over; never resolves. */
  get failure(): Promise<never> {
    return this.#failure.promise;
  }

  get probesUrl(): string | undefined {
    return this.#probeServer?.url;
  }

  /**
   * @returns the engine, which fails with the group, once the group may serve.
   * @throws GroupError slow_network, follower_lost, superseded, forming_failed
   */
  async admit(engine: Engine): Promise<Engine> {
    await Promise.race([this.#gate?.pass(), this.failure]);
    await Promise.race([this.#followers?.present(), this.#tooLate(), this.failure]);
    this.#followers?.ready();
    engine.onFailure((error) => this.#fail(error));
    const guarded: Engine = {
      describe: () => engine.describe(),
      generate: (request) => engine.generate(request),
      health: () => ({ ...engine.health(), ...(this.#failed && { state: "failed" as const }) }),
      onFailure: (listener) => void this.failure.catch(listener),
      close: () => engine.close(),
    };
    this.#engine = guarded;
    return guarded;
  }

  live(): string | undefined {
    if (this.#failed !== undefined) return this.#failed.message;
    return this.#progress.isStalled ? "turns run, and the engine stands still" : undefined;
  }

  ready(): string | undefined {
    if (this.#isDraining) return "drains";
    if (this.#engine === undefined) return "the engine starts";
    if (this.#pulse.isAway) return "Redis does not answer";
    const missing = this.#followers?.missing() ?? [];
    return missing.length > 0 ? `followers are missing: ${missing.join(", ")}` : this.live();
  }

  metrics(): string | undefined {
    return this.#exposition();
  }

  /** What `GET /metrics` answers from now on. */
  tells(exposition: () => string): void {
    this.#exposition = exposition;
  }

  /** Other nodes of the group that are not heard of. */
  get missingFollowers(): number {
    return this.#followers?.missing().length ?? 0;
  }

  /** No new turns are taken any more. */
  drains(): void {
    this.#isDraining = true;
  }

  /** The turns have ended: the followers may go. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#pulse.close();
    this.#probeServer?.close();
    await this.#followers?.close();
  }

  async #look(): Promise<void> {
    if (this.#engine !== undefined) {
      this.#progress.look(this.#engine.health());
      return;
    }
    // NCCL speaks long before the weights are loaded.
    await this.#gate?.check().catch((error: Error) => this.#fail(error));
  }

  async #tooLate(): Promise<never> {
    await new Promise((resolve) => setTimeout(resolve, presentMs).unref());
    const missing = this.#followers?.missing().join(", ");
    throw new GroupError("forming_failed", `Followers have not come: ${missing}.`);
  }

  #fail(error: Error): void {
    this.#failed ??= error;
    this.#failure.reject(error);
  }
}
