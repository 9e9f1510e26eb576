import { connectionKey } from "../events/redis-keys.ts";
import { connections } from "./lib/connections.ts";
import { lambda } from "./lib/lambda.ts";
import { redis } from "./lib/redis.ts";
import { rawSocketHandler, type SocketDeps, type SocketHandler } from "./lib/socket.ts";
import { unwatchAll } from "./lib/turns/watchers.ts";

/**
 * Forgets a connection. Its turns go on: who comes back resumes them. API Gateway may not call this
 * at all, so nothing depends on it that a TTL or a 410 would not do later.
 */
export function disconnect(deps: SocketDeps): SocketHandler {
  return rawSocketHandler(deps, async ({ requestContext: { connectionId } }) => {
    await unwatchAll(deps.redis, connectionId);
    await deps.redis.del(connectionKey(connectionId));
  });
}

export const handler = lambda(disconnect, [redis, connections]);
