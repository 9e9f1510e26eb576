import type { Redis } from "ioredis";
import type { SocketEvent, SocketFunctions } from "../../dataplane/relay/sockets.ts";
import { socketProtocol } from "../../events/socket-protocol.ts";
import { watchTurn } from "../../functions/lib/turns/watchers.ts";

const headers = { "Sec-WebSocket-Protocol": socketProtocol };

/** `resume` binds a connection to a turn; everybody may connect. */
export function benchFunctions(redis: Redis): SocketFunctions {
  return {
    has: (route) => route === "resume",
    async invoke(route, event) {
      if (route === "$connect") return { statusCode: 200, headers };
      if (route === "resume") await watch(redis, event);
      return { statusCode: 200 };
    },
  };
}

async function watch(redis: Redis, { body, requestContext }: SocketEvent): Promise<void> {
  const { turnId } = JSON.parse(body ?? "{}") as { turnId: string };
  await watchTurn(redis, turnId, requestContext.connectionId);
}
