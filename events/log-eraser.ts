import { type DynamoDBClient, UpdateItemCommand } from "@aws-sdk/client-dynamodb";
import { dynamoDbEventLog, eventTable } from "./event-log-dynamodb.ts";
import { erase, hasWords, isPlain } from "./sealing.ts";

/** Takes words out of the log that no key seals. */
export interface LogEraser {
  /** Blanks the plain words of a stream. @returns how many commits had any. */
  blankPlain(stream: string): Promise<number>;
}

/**
 * Commits are never changed, but for this: words that were written before there were keys can be erased in
 * no other way. The event stays, marked, and so do its size in tokens and its times.
 */
export function dynamoDbLogEraser(client: DynamoDBClient, tableName: string): LogEraser {
  const log = dynamoDbEventLog(client, tableName);
  return {
    async blankPlain(stream) {
      const plain = (await log.read(stream)).filter(({ events }) => events.some(isPlain));
      for (const { version, events } of plain) {
        const blank = events.map((event) =>
          hasWords(event) && isPlain(event) ? erase(event) : event,
        );
        await client.send(
          new UpdateItemCommand({
            TableName: tableName,
            Key: {
              [eventTable.hashKey]: { S: stream },
              [eventTable.rangeKey]: { N: String(version) },
            },
            UpdateExpression: "SET #events = :events",
            ConditionExpression: "attribute_exists(#stream)",
            ExpressionAttributeNames: { "#events": "events", "#stream": eventTable.hashKey },
            ExpressionAttributeValues: { ":events": { S: JSON.stringify(blank) } },
          }),
        );
      }
      return plain.length;
    },
  };
}
