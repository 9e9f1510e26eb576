import { randomBytes } from "node:crypto";
import {
  ConditionalCheckFailedException,
  type DynamoDBClient,
  PutItemCommand,
  QueryCommand,
} from "@aws-sdk/client-dynamodb";
import * as z from "zod";
import type { DataKey, DataKeys } from "./data-keys.ts";
import { dataKeyBytes } from "./sealing.ts";

/**
 * The data keys in a table of their own, whose backups would undo an erasure and which therefore has none.
 * A destroyed key leaves its item behind, without the key: so no other can be made in its place.
 */
export const keyTable = {
  hashKey: "conversation",
  /** Only keys that exist have the tenant, so the index holds no others. */
  tenantIndex: "by-tenant",
  tenantHashKey: "tenant",
} as const;

const itemSchema = z.object({ key: z.object({ B: z.instanceof(Uint8Array) }).optional() });

/** So many keys are asked for side by side. */
const asksAtOnce = 16;

/** The data keys in the table of keys; each call asks it anew. */
export function dynamoDbDataKeys(
  client: DynamoDBClient,
  tableName: string,
  now: () => number = Date.now,
): DataKeys {
  /** A query, where GetItem would do: the functions have one already, and each command adds to their bundles. */
  async function findOne(conversationId: string): Promise<DataKey | undefined> {
    const { Items = [] } = await client.send(
      new QueryCommand({
        TableName: tableName,
        ConsistentRead: true,
        KeyConditionExpression: "#id = :id",
        ExpressionAttributeNames: { "#id": keyTable.hashKey },
        ExpressionAttributeValues: { ":id": { S: conversationId } },
      }),
    );
    const [item] = Items;
    if (item === undefined) return undefined;
    const { key } = itemSchema.parse(item);
    return key === undefined ? "erased" : Buffer.from(key.B);
  }

  return {
    async find(conversationIds) {
      const found = new Map<string, DataKey>();
      const waiting = [...conversationIds];
      async function findEach(): Promise<void> {
        for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
          const key = await findOne(id);
          if (key !== undefined) found.set(id, key);
        }
      }
      await Promise.all(Array.from({ length: asksAtOnce }, findEach));
      return found;
    },

    async forWriting({ conversationId, tenantId }, isNew = false) {
      const there = isNew ? undefined : await findOne(conversationId);
      if (there !== undefined) return there;
      const key = randomBytes(dataKeyBytes);
      try {
        await client.send(
          new PutItemCommand({
            TableName: tableName,
            Item: {
              [keyTable.hashKey]: { S: conversationId },
              [keyTable.tenantHashKey]: { S: tenantId },
              key: { B: key },
              createdAt: { N: String(now()) },
            },
            ConditionExpression: "attribute_not_exists(#id)",
            ExpressionAttributeNames: { "#id": keyTable.hashKey },
          }),
        );
        return key;
      } catch (error) {
        if (!(error instanceof ConditionalCheckFailedException)) throw error;
      }
      // Somebody else was first.
      const theirs = await findOne(conversationId);
      if (theirs === undefined) throw new Error(`The data key of ${conversationId} came and went.`);
      return theirs;
    },
  };
}
