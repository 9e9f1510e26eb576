import { Logger } from "@aws-lambda-powertools/logger";
import { Redis } from "ioredis";
import { FrontDoor } from "../../dataplane/relay/front-door.ts";
import { startRelay } from "../../dataplane/relay/start-relay.ts";
import { processId } from "../../events/ids.ts";
import { runPart } from "./part-process.ts";
import { benchFunctions } from "./watch-functions.ts";

/** A relay with its own door; behind it, functions that bind connections to turns and do nothing else. */
runPart<{ redisUrl: string }, never>(async ({ redisUrl }) => {
  const redis = new Redis(redisUrl, { maxRetriesPerRequest: null });
  const logger = new Logger({ logLevel: "ERROR" });
  const relayId = processId("relay");
  const door = new FrontDoor({ relayId, functions: benchFunctions(redis), logger });
  await door.listen({ host: "127.0.0.1", port: 0 });
  const relay = await startRelay(relayId, { redis, logger, connections: door, now: Date.now });
  door.open((connectionId) => relay.forget(connectionId));
  return { ready: { url: door.url } };
});
