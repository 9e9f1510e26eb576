import type {
  APIGatewayProxyStructuredResultV2,
  APIGatewayProxyWebsocketEventV2,
  Context,
} from "aws-lambda";
import { errorCodes } from "../events/errors.ts";
import { connectionKey } from "../events/redis-keys.ts";
import { socketAuthPrefix, socketProtocol } from "../events/socket-protocol.ts";
import { credentials, unauthenticated } from "./lib/authenticate.ts";
import type { Deps } from "./lib/deps.ts";
import { lambda } from "./lib/lambda.ts";
import { connectionTtlSeconds } from "./lib/lifetimes.ts";
import { redis } from "./lib/redis.ts";
import { stack } from "./lib/stack.ts";

/** What API Gateway tells of a connection that wants to open: a frame's event, and the headers. */
export type ConnectEvent = APIGatewayProxyWebsocketEventV2 & {
  headers?: Record<string, string | undefined>;
};

/**
 * Lets a connection open, if its credential is good, and notes whose it is. What it answers other
 * than 200 reaches the client as the status of its handshake.
 */
export function connect(
  deps: Pick<Deps, "redis" | "authenticate" | "now" | "logger">,
): (event: ConnectEvent, context: Context) => Promise<APIGatewayProxyStructuredResultV2> {
  return stack<ConnectEvent, APIGatewayProxyStructuredResultV2>(
    deps,
    {
      keysOf: (event) => ({ connectionId: event.requestContext.connectionId }),
      refuse: ({ code }) => ({ statusCode: errorCodes[code].httpStatus }),
    },
    async (event, { log }) => {
      const { connectionId } = event.requestContext;
      const { tenantId, userId, scopes } = await deps.authenticate(credentialOf(event));
      log.add({ tenantId });
      const key = connectionKey(connectionId);
      const connectedAt = deps.now();
      await deps.redis
        .multi()
        .hset(key, { tenantId, userId, scopes: scopes.join(" "), connectedAt })
        .expire(key, connectionTtlSeconds)
        .exec();
      return { statusCode: 200, headers: { "Sec-WebSocket-Protocol": socketProtocol } };
    },
  );
}

/** @throws AxonError unauthenticated when there is none, or the client speaks another protocol. */
function credentialOf({ headers = {} }: ConnectEvent): string {
  const header = Object.entries(headers).find(
    ([name]) => name.toLowerCase() === "sec-websocket-protocol",
  );
  const protocols = (header?.[1] ?? "").split(",").map((protocol) => protocol.trim());
  const encoded = protocols.find((protocol) => protocol.startsWith(socketAuthPrefix));
  if (encoded === undefined || !protocols.includes(socketProtocol)) throw unauthenticated();
  return Buffer.from(encoded.slice(socketAuthPrefix.length), "base64url").toString("utf8");
}

export const handler = lambda(connect, [redis, credentials]);
