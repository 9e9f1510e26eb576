import type { ServerFrame } from "../../events/frames.ts";
import { relayOf } from "../../events/redis-keys.ts";
import { classify } from "../errors.ts";
import type { CallBudget } from "./call-budget.ts";
import { callbackApi } from "./callback-api.ts";

type PostResult = "sent" | "gone";

/** The way to a browser. */
export interface Connections {
  /** Resolves when the next call to the connection may be made. What it says is decided after that. */
  ready?(connectionId: string): Promise<void> | undefined;
  /**
   * Sends one frame.
   * @returns "gone" when the connection has closed for good.
   * @throws Error to be classified, when the call failed.
   */
  post(connectionId: string, frame: ServerFrame): PostResult | Promise<PostResult>;
}

/** Connections of an API Gateway WebSocket, by its callback API, within a budget of calls. */
export function apiGatewayConnections(
  { endpoint, region }: { endpoint: string; region: string },
  budget: CallBudget,
): Connections {
  const api = callbackApi(endpoint, region);
  return {
    ready: () => budget.take(),
    async post(connectionId, frame) {
      try {
        await api.post(connectionId, JSON.stringify(frame));
        return "sent";
      } catch (error) {
        if (classify(error) === "gone") return "gone";
        throw error;
      }
    },
  };
}

/** Connections of this relay's own door, and those of API Gateway. */
export function connectionsOf(door: Connections, gateway: Connections): Connections {
  const of = (connectionId: string) => (relayOf(connectionId) === undefined ? gateway : door);
  return {
    ready: (connectionId) => of(connectionId).ready?.(connectionId),
    post: (connectionId, frame) => of(connectionId).post(connectionId, frame),
  };
}
