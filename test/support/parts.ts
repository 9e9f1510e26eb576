import { randomBytes } from "node:crypto";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { SQSClient } from "@aws-sdk/client-sqs";
import { Redis } from "ioredis";
import { Client } from "pg";
import { inject } from "vitest";
import {
  createEventTable,
  createKeyTable,
  createQueue,
  type QueuePair,
} from "../../local/provision.ts";

/** The real parts of this test run. */
export interface Parts {
  redisUrl: string;
  /** A server; its user may create databases. */
  databaseUrl: string;
  dynamoDbEndpoint: string;
  sqsEndpoint: string;
}

export function parts(): Parts {
  return inject("parts");
}

const uniqueName = (): string => `test${randomBytes(8).toString("hex")}`;

/** @returns the URL of a new, empty database. */
export async function freshDatabase(): Promise<string> {
  const { databaseUrl } = parts();
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  const name = uniqueName();
  await client.query(`CREATE DATABASE ${name}`);
  await client.end();
  const url = new URL(databaseUrl);
  url.pathname = `/${name}`;
  return url.href;
}

/** Database 0 counts; the others are handed out. */
const lastDatabaseKey = "test:last-database";

/**
 * @returns the URL of an empty logical database. Channels are not part of it: what is published is
 *   heard in all of them, so tests ignore messages about ids that are not theirs.
 */
export async function freshRedis(): Promise<string> {
  const { redisUrl } = parts();
  const redis = new Redis(redisUrl);
  try {
    const database = await redis.incr(lastDatabaseKey);
    await redis.select(database);
    await redis.flushdb();
    return `${redisUrl}/${database}`;
  } finally {
    redis.disconnect();
  }
}

/** @returns the name of a new event table. */
export async function freshTable(): Promise<string> {
  const client = new DynamoDBClient(awsClientConfig("dynamodb"));
  const name = uniqueName();
  await createEventTable(client, name);
  client.destroy();
  return name;
}

/** @returns the name of a new table of data keys. */
export async function freshKeyTable(): Promise<string> {
  const client = new DynamoDBClient(awsClientConfig("dynamodb"));
  const name = uniqueName();
  await createKeyTable(client, name);
  client.destroy();
  return name;
}

/** @returns a new queue and its dead-letter queue; the fifth receive of a message is its last. */
export async function freshQueue(
  options: { fifo?: boolean; visibilityTimeoutSeconds?: number } = {},
): Promise<QueuePair> {
  const client = new SQSClient(awsClientConfig("sqs"));
  const queue = await createQueue(client, uniqueName(), options);
  client.destroy();
  return queue;
}

/** The settings of an AWS client that talks to the run's own servers. */
export function awsClientConfig(service: "sqs" | "dynamodb") {
  const { sqsEndpoint, dynamoDbEndpoint } = parts();
  return {
    endpoint: service === "sqs" ? sqsEndpoint : dynamoDbEndpoint,
    region: "us-east-1",
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
  };
}
