import { randomUUID } from "node:crypto";
import { type Commit, rolloutStream, turnStream } from "../../events/event-log.ts";
import type { RolloutEvent } from "../../events/rollout-events.ts";
import type { RolloutState } from "../../events/rollout-state.ts";
import type { TurnCommand } from "../../events/turn.ts";
import type { Deps } from "../../functions/lib/deps.ts";
import { execute } from "../../functions/lib/execute.ts";
import { tell } from "../../functions/lib/history/projection.ts";
import type { OpsAnswer } from "../../functions/lib/operations/run-operation.ts";
import { load, rollouts, turns } from "../../functions/lib/streams.ts";
import { manage } from "../../functions/manage.ts";
import { ops } from "../../functions/ops.ts";
import { TestCluster } from "./rollout-cluster.ts";
import { context, guide, type Stage, startStage } from "./stage.ts";

/** A model of a name of its own, with a clock that the test moves, on the real stores of a stage. */
export class RolloutStage {
  readonly model = `guide-${randomUUID().slice(0, 8)}`;
  readonly deps: Deps;
  readonly cluster: TestCluster;
  /** Unix ms. */
  time = Date.now();

  static async start(): Promise<{ stage: Stage; fresh: () => RolloutStage }> {
    const stage = await startStage();
    return { stage, fresh: () => new RolloutStage(stage) };
  }

  private constructor(stage: Stage) {
    const now = () => this.time;
    this.cluster = new TestCluster(stage.deps.redis, now);
    this.deps = { ...stage.deps, now, cluster: this.cluster };
  }

  revision(number: number): string {
    return `${this.model}-v${number}`;
  }

  /** What an operator asks. */
  async ask(command: string, fields: Record<string, unknown> = {}): Promise<OpsAnswer> {
    const payload = { command, ...(command !== "turn" && { model: this.model }), ...fields };
    return ops(this.deps)(payload, { ...context, awsRequestId: randomUUID() });
  }

  /** The first revision serves, and one group of it. */
  async adopt(fields: Record<string, unknown> = {}): Promise<void> {
    const revision = this.revision(1);
    await this.cluster.start(`${revision}-0`, revision);
    await this.cluster.follow({
      ...{ type: "EnsureCapacity", model: this.model, revision, groups: 1, basis: 0 },
    });
    await this.ask("adopt", {
      revision,
      groupIds: [`${revision}-0`],
      timeouts: { settleMs: 0 },
      ...fields,
    });
    await this.tick();
  }

  /** The time passes, groups tell that they live, and the manager looks after the model. */
  async tick(afterMs = 1_000, deps: Deps = this.deps) {
    this.time += afterMs;
    await this.cluster.beat();
    return manage(deps)({ model: this.model }, context);
  }

  async state(): Promise<RolloutState> {
    return (await load(this.deps.log, rollouts, this.model)).state;
  }

  async events(): Promise<RolloutEvent[]> {
    return (await load(this.deps.log, rollouts, this.model)).events;
  }

  async types(): Promise<string[]> {
    return (await this.events()).map(({ type }) => type);
  }

  /** A turn of a revision, as far as it has got, told to PostgreSQL unless it is not to be. */
  async turn(
    revision: string,
    {
      end,
      isTold = true,
      tenantId = "acme",
      firstTokenMs = 100,
      code = "internal",
    }: {
      end?: "completed" | "failed" | "started";
      isTold?: boolean;
      tenantId?: string;
      firstTokenMs?: number;
      code?: string;
    } = {},
  ): Promise<string> {
    const turnId = `turn_${randomUUID()}`;
    const at = this.time;
    const runner = { turnId, groupId: `${revision}-0`, leaderId: "leader", epoch: 1, at };
    const ending = {
      ...{ ...runner, startedAt: at, text: "It is so." },
      usage: { promptTokens: 5, completionTokens: 11 },
      timings: { queuedMs: 1, firstTokenMs, totalMs: firstTokenMs + 500 },
    };
    const commands: TurnCommand[] = [
      {
        ...{ type: "RequestTurn", at, turnId, conversationId: `conv_${turnId}`, tenantId },
        ...{ model: this.model, revision, prompt: "Is it?", priority: "interactive" },
        ...{ sampling: { ...guide.sampling, seed: 1 }, correlationId: "test" },
      },
      ...(end === undefined
        ? []
        : [{ type: "ReportStarted", ...runner, emittedTokens: 0 } as const]),
      ...(end === "completed"
        ? [{ type: "ReportCompleted", ...ending, finishReason: "stop" } as const]
        : []),
      ...(end === "failed"
        ? [{ type: "ReportFailed", ...ending, code, message: "It broke." } as const]
        : []),
    ];
    for (const command of commands) await execute(this.deps.log, turns, turnId, () => command);
    if (isTold) await this.tellAll(turnStream(turnId));
    return turnId;
  }

  /** Tells PostgreSQL of a stream. */
  async tellAll(stream: string): Promise<void> {
    for (const commit of await this.deps.log.read(stream)) await tell(this.deps, commit);
  }

  async turns(revision: string, count: number, options?: Parameters<RolloutStage["turn"]>[1]) {
    await Promise.all(Array.from({ length: count }, () => this.turn(revision, options)));
  }

  commits(): Promise<Commit[]> {
    return this.deps.log.read(rolloutStream(this.model));
  }
}
