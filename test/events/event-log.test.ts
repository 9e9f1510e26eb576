import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EventLog } from "../../events/event-log.ts";
import { dynamoDbEventLog } from "../../events/event-log-dynamodb.ts";
import { memoryEventLog } from "../../events/event-log-memory.ts";
import { createEventTable } from "../../local/provision.ts";
import { awsClientConfig, freshTable } from "../support/parts.ts";
import { startDynamoDbLocal, whyNoDynamoDbLocal } from "./dynamodb-local.ts";
import { eventLogContract } from "./event-log.contract.ts";

describe("the event log in memory", () => {
  const log = memoryEventLog();
  eventLogContract(() => log);
});

describe("the event log in DynamoDB", () => {
  const client = new DynamoDBClient(awsClientConfig("dynamodb"));
  let log: EventLog;
  beforeAll(async () => {
    log = dynamoDbEventLog(client, await freshTable());
  });
  afterAll(() => client.destroy());

  eventLogContract(() => log);

  test("refuses a commit that no item can hold, and says how large it is", async () => {
    const event = {
      type: "ConversationStarted",
      version: 1,
      at: 1,
      conversationId: "big",
      tenantId: "acme",
      title: "x".repeat(400 * 1024),
    } as const;
    await expect(log.append("conversation/big", 0, [event])).rejects.toThrow(
      /conversation\/big is \d+ bytes; the most is 389120/,
    );
    expect(await log.read("conversation/big")).toEqual([]);
  });
});

const skipped = whyNoDynamoDbLocal();
const title = "the event log in AWS's DynamoDB Local";
describe.skipIf(skipped !== undefined)(
  skipped === undefined ? title : `${title}: ${skipped}`,
  () => {
    let local: Awaited<ReturnType<typeof startDynamoDbLocal>>;
    let client: DynamoDBClient;
    let log: EventLog;
    beforeAll(async () => {
      local = await startDynamoDbLocal();
      client = new DynamoDBClient({ ...awsClientConfig("dynamodb"), endpoint: local.url });
      await createEventTable(client, "events");
      log = dynamoDbEventLog(client, "events");
    });
    afterAll(async () => {
      client.destroy();
      await local.stop();
    });

    eventLogContract(() => log);
  },
);
