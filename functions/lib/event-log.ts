import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import * as z from "zod";
import { cachedDataKeys } from "../../events/data-keys.ts";
import { dynamoDbDataKeys } from "../../events/data-keys-dynamodb.ts";
import { dynamoDbEventLog } from "../../events/event-log-dynamodb.ts";
import { sealedEventLog } from "../../events/event-log-sealed.ts";
import { awsClient } from "./aws-client.ts";
import { provider } from "./provider.ts";

const tableSchema = z.object({ AXON_EVENTS_TABLE: z.string().min(1) });

/** The log with its words, for those who need them. */
export const eventLog = provider(
  ["log", "openCommits", "dataKeys"],
  tableSchema.extend({ AXON_DATA_KEYS_TABLE: z.string().min(1) }),
  ({ AXON_EVENTS_TABLE: table, AXON_DATA_KEYS_TABLE: keyTable }) => {
    const client = new DynamoDBClient(awsClient);
    const dataKeys = cachedDataKeys(dynamoDbDataKeys(client, keyTable));
    const log = sealedEventLog(dynamoDbEventLog(client, table), dataKeys);
    return { log, openCommits: log.open, dataKeys };
  },
);

/** The log without the words of users, which stay sealed: for who decides by the facts alone. */
export const eventFacts = provider(["log"], tableSchema, ({ AXON_EVENTS_TABLE: table }) => ({
  log: dynamoDbEventLog(new DynamoDBClient(awsClient), table),
}));
