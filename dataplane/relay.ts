import type { Logger } from "@aws-lambda-powertools/logger";
import { processId } from "../events/ids.ts";
import { type RedisClient, redisClient } from "../events/redis-client.ts";
import { openTracing } from "../events/tracing/tracing.ts";
import { type RelayConfig, relayConfig } from "./config.ts";
import {
  gaugeRelay,
  meteredConnections,
  type RelayMeter,
  relayMeter,
} from "./metrics/relay-meter.ts";
import { serveProbes } from "./probes.ts";
import { runProcess } from "./process.ts";
import { RedisPulse } from "./redis-pulse.ts";
import { callBudget } from "./relay/call-budget.ts";
import { apiGatewayConnections, type Connections, connectionsOf } from "./relay/connections.ts";
import { DeliveryTracer } from "./relay/delivery-tracer.ts";
import { FrontDoor } from "./relay/front-door.ts";
import { lambdaFunctions } from "./relay/functions.ts";
import { startRelay } from "./relay/start-relay.ts";

const help = `
node dataplane/relay.ts: carries token streams from Redis to WebSocket connections.

It is configured by the environment:
  REDIS_URL                   where the token streams are; redis+cluster:// (rediss+cluster:// with TLS)
                              where it is a cluster
  AXON_CONNECTIONS_ENDPOINT   the callback API of the WebSocket gateway
  AXON_CALLBACKS_PER_SECOND   calls a second of all relays together, at most (default 8000)
  RELAY_LISTEN                HOST:PORT: terminates WebSockets itself, too; GET /health answers there
  AXON_FUNCTIONS              with RELAY_LISTEN: JSON, the functions behind the routes $connect, $disconnect,
                              $default, chat, cancel, resume, observe and operate, by name or ARN
  AXON_DRAIN_MS               time for connections to move after SIGTERM (default 10000)
  AXON_PROBES                 HOST:PORT that answers GET /live, GET /ready and GET /metrics
  LOG_LEVEL                   DEBUG, INFO, WARN or ERROR
  OTEL_EXPORTER_OTLP_ENDPOINT, AXON_TRACE_FILE
                              where spans go (docs/OBSERVABILITY.md)
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
  const redis = redisClient(config.REDIS_URL, { maxRetriesPerRequest: null });
  redis.on("error", (error) => logger.warn("Redis is away", { error }));
  const budget = callBudget(config.AXON_CALLBACKS_PER_SECOND);
  const { AXON_CONNECTIONS_ENDPOINT: endpoint, AWS_REGION: region } = config;
  const meter = relayMeter();
  const callbacks = apiGatewayConnections({ endpoint, region }, budget);
  const gateway = meteredConnections(meter, "gateway", callbacks);
  const door = await openDoor(relayId, config, logger);
  const connections: Connections =
    door === undefined ? gateway : connectionsOf(meteredConnections(meter, "own", door), gateway);
  const tracing = await openTracing(process.env, {
    ...{ service: "axon-relay", attributes: { "service.instance.id": relayId } },
    note: (message, details) => logger.warn(message, details),
  });
  const relay = await startRelay(relayId, {
    ...{ redis, logger, connections, meter, now: Date.now },
    tracer: tracing && new DeliveryTracer(tracing, redis),
    onRelays: (living) => budget.setRate(config.AXON_CALLBACKS_PER_SECOND / living),
  });
  door?.open((connectionId) => relay.forget(connectionId));
  const stopCounting = gaugeRelay(meter, { relay, connections: () => door?.size ?? 0 });
  const probes = config.AXON_PROBES && (await answerProbes(config.AXON_PROBES, redis, meter));
  return {
    ready: { role: "relay", relayId, shards: relay.shards(), url: door?.url, probes: probes?.url },
    async drain() {
      probes?.drains();
      await door?.drain(config.AXON_DRAIN_MS);
      await relay.stop();
      await tracing?.flush(1_000);
      probes?.close();
      stopCounting();
      redis.disconnect();
    },
  };
}

/** Ready while Redis answers and nobody is asked to leave. A restart would help in no case seen here. */
async function answerProbes(
  address: { host: string; port: number },
  redis: RedisClient,
  { registry }: RelayMeter,
) {
  const pulse = new RedisPulse(redis);
  let isDraining = false;
  const server = await serveProbes(address, {
    live: () => undefined,
    metrics: () => registry.exposition(),
    ready: () => (isDraining ? "drains" : pulse.isAway ? "Redis does not answer" : undefined),
  });
  return {
    url: server.url,
    drains() {
      isDraining = true;
    },
    close() {
      pulse.close();
      server.close();
    },
  };
}

await runProcess({
  start,
  help,
  serviceName: "axon-relay",
  logLevel: () => relayConfig(process.env).LOG_LEVEL,
});
