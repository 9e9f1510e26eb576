import { connectionKey } from "../events/redis-keys.ts";
import type { Deps } from "./lib/deps.ts";
import { rawSocketHandler, type SocketHandler } from "./lib/socket.ts";
import { unwatchAll } from "./lib/watchers.ts";

/**
 * Forgets a connection. Its turns go on: who comes back resumes them. API Gateway may not call this
 * at all, so nothing depends on it that a TTL or a 410 would not do later.
 */
export function disconnect(deps: Deps): SocketHandler {
  return rawSocketHandler(deps, async ({ requestContext: { connectionId } }) => {
    await unwatchAll(deps.redis, connectionId);
    await deps.redis.del(connectionKey(connectionId));
  });
}
