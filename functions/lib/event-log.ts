import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import * as z from "zod";
import { dynamoDbEventLog } from "../../events/event-log-dynamodb.ts";
import { awsClient } from "./aws-client.ts";
import { provider } from "./provider.ts";

export const eventLog = provider(
  ["log"],
  z.object({ AXON_EVENTS_TABLE: z.string().min(1) }),
  ({ AXON_EVENTS_TABLE: table }) => ({
    log: dynamoDbEventLog(new DynamoDBClient(awsClient), table),
  }),
);
