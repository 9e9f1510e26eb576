import type { Logger } from "@aws-lambda-powertools/logger";
import { Redis } from "ioredis";
import { processId } from "../events/ids.ts";
import { type RelayConfig, relayConfig } from "./config.ts";
import { runProcess } from "./process.ts";
import { callBudget } from "./relay/call-budget.ts";
import { apiGatewayConnections, type Connections, connectionsOf } from "./relay/connections.ts";
import { FrontDoor } from "./relay/front-door.ts";
import { lambdaFunctions } from "./relay/functions.ts";
import { startRelay } from "./relay/start-relay.ts";

const help = `
node dataplane/relay.ts: carries token streams from Redis to WebSocket connections.

It is configured by the environment:
  REDIS_URL                   where the token streams are
  AXON_CONNECTIONS_ENDPOINT   the callback API of the WebSocket gateway
  AXON_CALLBACKS_PER_SECOND   calls a second of all relays together, at most (default 8000)
  RELAY_LISTEN                HOST:PORT: terminates WebSockets itself, too; GET /health answers there
  AXON_FUNCTIONS              with RELAY_LISTEN: JSON, the functions behind the routes $connect, $disconnect,
                              $default, chat, cancel and resume, by name or ARN
  AXON_DRAIN_MS               time for connections to move after SIGTERM (default 10000)
  LOG_LEVEL                   DEBUG, INFO, WARN or ERROR
and by what the AWS SDK reads: AWS_REGION, credentials, AWS_ENDPOINT_URL_LAMBDA.
`;

/** Opens the relay's own door, when it is to have one. */
async function openDoor(
  relayId: string,
  config: RelayConfig,
  logger: Logger,
): Promise<FrontDoor | undefined> {
  const { RELAY_LISTEN: listen, AXON_FUNCTIONS: names } = config;
  if (listen === undefined || names === undefined) return undefined;
  const door = new FrontDoor({ relayId, functions: lambdaFunctions(names), logger });
  await door.listen(listen);
  return door;
}

async function start(logger: Logger) {
  const config = relayConfig(process.env);
  const relayId = processId("relay");
  logger.appendKeys({ relayId });
  const redis = new Redis(config.REDIS_URL, { maxRetriesPerRequest: null });
  redis.on("error", (error) => logger.warn("Redis is away", { error }));
  const budget = callBudget(config.AXON_CALLBACKS_PER_SECOND);
  const { AXON_CONNECTIONS_ENDPOINT: endpoint, AWS_REGION: region } = config;
  const gateway = apiGatewayConnections({ endpoint, region }, budget);
  const door = await openDoor(relayId, config, logger);
  const connections: Connections = door === undefined ? gateway : connectionsOf(door, gateway);
  const relay = await startRelay(relayId, {
    ...{ redis, logger, connections, now: Date.now },
    onRelays: (living) => budget.setRate(config.AXON_CALLBACKS_PER_SECOND / living),
  });
  door?.open((connectionId) => relay.forget(connectionId));
  return {
    ready: { role: "relay", relayId, shards: relay.shards(), url: door?.url },
    async drain() {
      await door?.drain(config.AXON_DRAIN_MS);
      await relay.stop();
      redis.disconnect();
    },
  };
}

await runProcess({
  start,
  help,
  serviceName: "axon-relay",
  logLevel: () => relayConfig(process.env).LOG_LEVEL,
});
