import {
  ApiGatewayManagementApiClient,
  ApiGatewayManagementApiServiceException,
  DeleteConnectionCommand,
  PostToConnectionCommand,
} from "@aws-sdk/client-apigatewaymanagementapi";
import * as z from "zod";
import type { ServerFrame } from "../../events/frames.ts";
import { awsClient } from "./aws-client.ts";
import { provider } from "./provider.ts";

/** The way back to the connections of the WebSocket. */
export const connections = provider(
  ["sendFrame", "closeConnection"],
  z.object({ AXON_CONNECTIONS_ENDPOINT: z.url({ protocol: /^https?$/ }) }),
  ({ AXON_CONNECTIONS_ENDPOINT: endpoint }) => {
    const client = new ApiGatewayManagementApiClient({ ...awsClient, endpoint });
    return { sendFrame: apiGatewaySender(client), closeConnection: apiGatewayCloser(client) };
  },
);

/**
 * Sends one frame to a browser; "gone" when its connection has closed for good.
 * @throws what the SDK throws when the gateway does not take the frame.
 */
export type SendFrame = (connectionId: string, frame: ServerFrame) => Promise<"sent" | "gone">;

/** Sends frames through API Gateway's callback API. */
function apiGatewaySender(client: ApiGatewayManagementApiClient): SendFrame {
  return async (connectionId, frame) => {
    try {
      const Data = JSON.stringify(frame);
      await client.send(new PostToConnectionCommand({ ConnectionId: connectionId, Data }));
      return "sent";
    } catch (error) {
      if (isGone(error)) return "gone";
      throw error;
    }
  };
}

/** Closes a connection; one that has closed already is as good. */
export type CloseConnection = (connectionId: string) => Promise<void>;

function apiGatewayCloser(client: ApiGatewayManagementApiClient): CloseConnection {
  return async (ConnectionId) => {
    try {
      await client.send(new DeleteConnectionCommand({ ConnectionId }));
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  };
}

/** By its status: a gateway that leaves the error's type out of the headers means the same. */
const isGone = (error: unknown): boolean =>
  error instanceof ApiGatewayManagementApiServiceException &&
  error.$metadata.httpStatusCode === 410;
