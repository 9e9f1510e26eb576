import { randomUUID } from "node:crypto";
import type { ServerFrame } from "../../events/frames.ts";
import type { Scope } from "../../events/scopes.ts";
import type { ObservedData, View } from "../../events/views.ts";
import type { OpsAnswer } from "../../functions/lib/operations/run-operation.ts";
import { observe } from "../../functions/observe.ts";
import { operate } from "../../functions/operate.ts";
import type { RolloutStage } from "./rollout-stage.ts";
import { context, type Stage, socketEvent } from "./stage.ts";

/** An operator of a tenant, at a connection of its own. */
export class Operator {
  readonly #stage: Stage;
  readonly #one: RolloutStage;
  readonly #scopes: readonly Scope[];
  readonly tenantId: string;
  #connectionId: string | undefined;

  constructor(
    stage: Stage,
    one: RolloutStage,
    tenantId: string,
    scopes: readonly Scope[] = ["ops:read", "ops:write"],
  ) {
    this.#stage = stage;
    this.#one = one;
    this.#scopes = scopes;
    this.tenantId = tenantId;
  }

  async connectionId(): Promise<string> {
    this.#connectionId ??= await this.#stage.open(this.tenantId, this.#scopes);
    return this.#connectionId;
  }

  /** The frame that answers. */
  async send(frame: Record<string, unknown>): Promise<ServerFrame> {
    const handler = frame["action"] === "operate" ? operate : observe;
    const connectionId = await this.connectionId();
    const event = socketEvent(connectionId, { requestId: "r", ...frame });
    await handler(this.#one.deps)(event, { ...context, awsRequestId: randomUUID() });
    const answer = this.#stage.framesTo(connectionId).at(-1);
    if (answer === undefined) throw new Error("No frame came.");
    return answer;
  }

  /** @throws where it was refused. */
  async see<V extends View>(view: V, fields: object = {}): Promise<ObservedData[V]> {
    const frame = await this.send({ action: "observe", view, ...fields });
    if (frame.type !== "observed") throw new Error(JSON.stringify(frame));
    return frame.data as ObservedData[V];
  }

  async operate(operation: Record<string, unknown>): Promise<OpsAnswer> {
    const frame = await this.send({ action: "operate", operation });
    if (frame.type !== "operated") throw new Error(JSON.stringify(frame));
    return frame.answer as OpsAnswer;
  }
}
