import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import * as z from "zod";
import { dynamoDbKeyRegister } from "../../../events/data-key-register.ts";
import { dynamoDbLogEraser } from "../../../events/log-eraser.ts";
import { awsClient } from "../aws-client.ts";
import { provider } from "../provider.ts";

/** What destroys keys, and words that have none: for those who erase, and for nobody else. */
export const erasers = provider(
  ["keyRegister", "logEraser"],
  z.object({ AXON_EVENTS_TABLE: z.string().min(1), AXON_DATA_KEYS_TABLE: z.string().min(1) }),
  ({ AXON_EVENTS_TABLE: table, AXON_DATA_KEYS_TABLE: keyTable }) => {
    const client = new DynamoDBClient(awsClient);
    return {
      keyRegister: dynamoDbKeyRegister(client, keyTable),
      logEraser: dynamoDbLogEraser(client, table),
    };
  },
);
