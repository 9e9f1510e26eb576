import type {
  APIGatewayProxyStructuredResultV2,
  APIGatewayProxyWebsocketEventV2,
  Context,
} from "aws-lambda";
import { errorCodes } from "../events/errors.ts";
import { connectionKey } from "../events/redis-keys.ts";
import { socketAuthPrefix, socketProtocol } from "../events/socket-protocol.ts";
import { credentials, type Identity, unauthenticated } from "./lib/credentials/authenticate.ts";
import { joinKey } from "./lib/credentials/key-connections.ts";
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
      const identity = await deps.authenticate(credentialOf(event));
      log.add({ tenantId: identity.tenantId, keyId: identity.key?.keyId });
      await bind(deps, connectionId, identity);
      return { statusCode: 200, headers: { "Sec-WebSocket-Protocol": socketProtocol } };
    },
  );
}

/** @throws AxonError unauthenticated when the key has ended since it was last read. */
async function bind(
  { redis, now }: Pick<Deps, "redis" | "now">,
  connectionId: string,
  { tenantId, userId, scopes, endsAt, key }: Identity,
): Promise<void> {
  const name = connectionKey(connectionId);
  const fields = {
    ...{ tenantId, userId, scopes: scopes.join(" "), connectedAt: now() },
    ...(endsAt !== undefined && { endsAt }),
    ...(key !== undefined && { generation: key.generation }),
  };
  await redis.multi().hset(name, fields).expire(name, connectionTtlSeconds).exec();
  if (key === undefined) return;
  if ((await joinKey(redis, key, connectionId, now())) > now()) return;
  await redis.del(name);
  throw unauthenticated();
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
