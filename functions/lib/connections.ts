import {
  type ApiGatewayManagementApiClient,
  ApiGatewayManagementApiServiceException,
  PostToConnectionCommand,
} from "@aws-sdk/client-apigatewaymanagementapi";
import type { ServerFrame } from "../../events/frames.ts";

/**
 * Sends one frame to a browser; "gone" when its connection has closed for good.
 * @throws what the SDK throws when the gateway does not take the frame.
 */
export type SendFrame = (connectionId: string, frame: ServerFrame) => Promise<"sent" | "gone">;

/** Sends frames through API Gateway's callback API. */
export function apiGatewaySender(client: ApiGatewayManagementApiClient): SendFrame {
  return async (connectionId, frame) => {
    try {
      const Data = JSON.stringify(frame);
      await client.send(new PostToConnectionCommand({ ConnectionId: connectionId, Data }));
      return "sent";
    } catch (error) {
      // By its status: a gateway that leaves the error's type out of the headers means the same.
      const isAnswer = error instanceof ApiGatewayManagementApiServiceException;
      if (isAnswer && error.$metadata.httpStatusCode === 410) return "gone";
      throw error;
    }
  };
}
