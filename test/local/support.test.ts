import { DescribeTableCommand, DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { GetQueueAttributesCommand, SQSClient } from "@aws-sdk/client-sqs";
import { Redis } from "ioredis";
import { Client } from "pg";
import { expect, test } from "vitest";
import {
  awsClientConfig,
  freshDatabase,
  freshQueue,
  freshRedis,
  freshTable,
  parts,
} from "../support/parts.ts";

test("each caller gets an empty database of its own", async () => {
  const [first, second] = await Promise.all([freshDatabase(), freshDatabase()]);
  expect(first).not.toBe(second);
  const client = new Client({ connectionString: first });
  await client.connect();
  const { rows } = await client.query("SHOW server_version");
  expect(rows[0].server_version).toMatch(/^18/);
  await client.end();
});

test("each caller gets an empty logical database of Redis", async () => {
  const [first, second] = await Promise.all([freshRedis(), freshRedis()]);
  expect(first).not.toBe(second);
  const redis = new Redis(first);
  expect(await redis.dbsize()).toBe(0);
  redis.disconnect();
});

test("a table is ready for commits, with the index of the global order", async () => {
  const client = new DynamoDBClient(awsClientConfig("dynamodb"));
  const { Table } = await client.send(new DescribeTableCommand({ TableName: await freshTable() }));
  expect(Table?.TableStatus).toBe("ACTIVE");
  expect(Table?.GlobalSecondaryIndexes?.map((index) => index.IndexName)).toEqual(["order"]);
});

test.each([true, false])(
  "a queue (fifo: %s) has dead letters after five receives",
  async (fifo) => {
    const client = new SQSClient(awsClientConfig("sqs"));
    const { url } = await freshQueue({ fifo, visibilityTimeoutSeconds: 7 });
    const { Attributes } = await client.send(
      new GetQueueAttributesCommand({ QueueUrl: url, AttributeNames: ["All"] }),
    );
    expect(url.startsWith(parts().sqsEndpoint)).toBe(true);
    expect(Attributes).toMatchObject({ VisibilityTimeout: "7" });
    expect(JSON.parse(Attributes?.RedrivePolicy ?? "{}")).toMatchObject({ maxReceiveCount: 5 });
  },
);
