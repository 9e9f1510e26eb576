import { type DynamoDBClient, QueryCommand, UpdateItemCommand } from "@aws-sdk/client-dynamodb";
import * as z from "zod";
import type { DataKeyRegister } from "./data-keys.ts";
import { keyTable } from "./data-keys-dynamodb.ts";

const itemSchema = z.object({ [keyTable.hashKey]: z.object({ S: z.string() }) });

/** The keys' table for whoever erases. */
export function dynamoDbKeyRegister(client: DynamoDBClient, tableName: string): DataKeyRegister {
  return {
    async destroy(conversationId, at) {
      await client.send(
        new UpdateItemCommand({
          TableName: tableName,
          Key: { [keyTable.hashKey]: { S: conversationId } },
          UpdateExpression: "SET erasedAt = if_not_exists(erasedAt, :at) REMOVE #key, #tenant",
          ExpressionAttributeNames: { "#key": "key", "#tenant": keyTable.tenantHashKey },
          ExpressionAttributeValues: { ":at": { N: String(at) } },
        }),
      );
    },

    async ofTenant(tenantId, after, limit) {
      const { Items = [] } = await client.send(
        new QueryCommand({
          TableName: tableName,
          IndexName: keyTable.tenantIndex,
          KeyConditionExpression: "#tenant = :tenant AND #id > :after",
          ExpressionAttributeNames: {
            "#tenant": keyTable.tenantHashKey,
            "#id": keyTable.hashKey,
          },
          // DynamoDB refuses an empty key; every id is above a blank.
          ExpressionAttributeValues: { ":tenant": { S: tenantId }, ":after": { S: after || " " } },
          Limit: limit,
        }),
      );
      return Items.map((item) => itemSchema.parse(item)[keyTable.hashKey].S);
    },
  };
}
