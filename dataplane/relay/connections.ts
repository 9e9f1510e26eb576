import {
  ApiGatewayManagementApiClient,
  PostToConnectionCommand,
} from "@aws-sdk/client-apigatewaymanagementapi";
import type { ServerFrame } from "../../events/frames.ts";
import { classify } from "../errors.ts";

/** The way to a browser. */
export interface Connections {
  /**
   * Sends one frame.
   * @returns "gone" when the connection has closed for good.
   * @throws Error to be classified, when the call failed.
   */
  post(connectionId: string, frame: ServerFrame): Promise<"sent" | "gone">;
}

/** Connections of an API Gateway WebSocket, by its callback API. */
export function apiGatewayConnections(endpoint: string): Connections {
  // The relay retries by itself: it may join what has arrived meanwhile into the next attempt.
  const client = new ApiGatewayManagementApiClient({ endpoint, maxAttempts: 1 });
  return {
    async post(connectionId, frame) {
      const Data = JSON.stringify(frame);
      try {
        await client.send(new PostToConnectionCommand({ ConnectionId: connectionId, Data }));
        return "sent";
      } catch (error) {
        if (classify(error) === "gone") return "gone";
        throw error;
      }
    },
  };
}
