import { Logger } from "@aws-lambda-powertools/logger";
import { Redis } from "ioredis";
import { callBudget } from "../../dataplane/relay/call-budget.ts";
import { apiGatewayConnections } from "../../dataplane/relay/connections.ts";
import { startRelay } from "../../dataplane/relay/start-relay.ts";
import { processId } from "../../events/ids.ts";
import { runPart } from "./part-process.ts";

/** A relay in front of a gateway. Asked anything, it tells how many callbacks it has made. */
runPart<{ redisUrl: string; endpoint: string; callsPerSecond: number }, unknown>(async (order) => {
  const redis = new Redis(order.redisUrl, { maxRetriesPerRequest: null });
  const { endpoint, callsPerSecond } = order;
  const gateway = apiGatewayConnections({ endpoint, region: "local" }, callBudget(callsPerSecond));
  let calls = 0;
  await startRelay(processId("relay"), {
    ...{ redis, logger: new Logger({ logLevel: "ERROR" }), now: Date.now },
    connections: {
      ready: (connectionId) => gateway.ready?.(connectionId),
      post(connectionId, frame) {
        calls++;
        return gateway.post(connectionId, frame);
      },
    },
  });
  return { ready: {}, onMessage: () => calls };
});
