import {
  CreateTableCommand,
  type CreateTableCommandInput,
  type DynamoDBClient,
  ResourceInUseException,
  waitUntilTableExists,
} from "@aws-sdk/client-dynamodb";
import { CreateQueueCommand, GetQueueAttributesCommand, type SQSClient } from "@aws-sdk/client-sqs";
import { keyTable } from "../events/data-keys-dynamodb.ts";
import { eventTable } from "../events/event-log-dynamodb.ts";

/** What AWS gets from its stacks: the table and the queues. Making what is there changes nothing. */

/** Makes the event log's table with its index, and waits until it can be used. */
export async function createEventTable(client: DynamoDBClient, name: string): Promise<void> {
  const { hashKey, rangeKey, orderIndex, orderHashKey, orderRangeKey } = eventTable;
  await createTable(client, {
    TableName: name,
    AttributeDefinitions: [
      { AttributeName: hashKey, AttributeType: "S" },
      { AttributeName: rangeKey, AttributeType: "N" },
      { AttributeName: orderHashKey, AttributeType: "N" },
      { AttributeName: orderRangeKey, AttributeType: "S" },
    ],
    KeySchema: [
      { AttributeName: hashKey, KeyType: "HASH" },
      { AttributeName: rangeKey, KeyType: "RANGE" },
    ],
    GlobalSecondaryIndexes: [
      {
        IndexName: orderIndex,
        KeySchema: [
          { AttributeName: orderHashKey, KeyType: "HASH" },
          { AttributeName: orderRangeKey, KeyType: "RANGE" },
        ],
        Projection: { ProjectionType: "ALL" },
      },
    ],
  });
}

/** Makes the table of the data keys, and waits until it can be used. */
export async function createKeyTable(client: DynamoDBClient, name: string): Promise<void> {
  const { hashKey, tenantIndex, tenantHashKey } = keyTable;
  await createTable(client, {
    TableName: name,
    AttributeDefinitions: [
      { AttributeName: hashKey, AttributeType: "S" },
      { AttributeName: tenantHashKey, AttributeType: "S" },
    ],
    KeySchema: [{ AttributeName: hashKey, KeyType: "HASH" }],
    GlobalSecondaryIndexes: [
      {
        IndexName: tenantIndex,
        KeySchema: [
          { AttributeName: tenantHashKey, KeyType: "HASH" },
          { AttributeName: hashKey, KeyType: "RANGE" },
        ],
        Projection: { ProjectionType: "KEYS_ONLY" },
      },
    ],
  });
}

async function createTable(
  client: DynamoDBClient,
  table: Omit<CreateTableCommandInput, "BillingMode">,
): Promise<void> {
  try {
    await client.send(new CreateTableCommand({ BillingMode: "PAY_PER_REQUEST", ...table }));
  } catch (error) {
    if (!(error instanceof ResourceInUseException)) throw error;
  }
  await waitUntilTableExists(
    { client, maxWaitTime: 60, minDelay: 0.1, maxDelay: 1 },
    { TableName: table.TableName },
  );
}

export interface QueuePair {
  url: string;
  deadLetterUrl: string;
}

/** A message that was received this often without being deleted joins the dead letters. */
const maxReceives = 5;

/**
 * Makes a queue and its dead-letter queue (`<name>-dead`).
 * @param name without the suffix `.fifo`, which `fifo` adds to both.
 */
export async function createQueue(
  client: SQSClient,
  name: string,
  options: { fifo?: boolean; visibilityTimeoutSeconds?: number } = {},
): Promise<QueuePair> {
  const suffix = options.fifo ? ".fifo" : "";
  const kind = options.fifo ? { FifoQueue: "true" } : undefined;
  const deadLetterUrl = await urlOf(client, `${name}-dead${suffix}`, { ...kind });
  const { Attributes } = await client.send(
    new GetQueueAttributesCommand({ QueueUrl: deadLetterUrl, AttributeNames: ["QueueArn"] }),
  );
  const url = await urlOf(client, `${name}${suffix}`, {
    ...kind,
    VisibilityTimeout: String(options.visibilityTimeoutSeconds ?? 30),
    RedrivePolicy: JSON.stringify({
      deadLetterTargetArn: Attributes?.QueueArn,
      maxReceiveCount: maxReceives,
    }),
  });
  return { url, deadLetterUrl };
}

async function urlOf(
  client: SQSClient,
  QueueName: string,
  Attributes: Record<string, string>,
): Promise<string> {
  const { QueueUrl } = await client.send(new CreateQueueCommand({ QueueName, Attributes }));
  if (QueueUrl === undefined) throw new Error(`SQS gave no address for the queue ${QueueName}.`);
  return QueueUrl;
}
