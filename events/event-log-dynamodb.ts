import {
  type AttributeValue,
  ConditionalCheckFailedException,
  type DynamoDBClient,
  PutItemCommand,
  paginateQuery,
  QueryCommand,
  type QueryCommandOutput,
} from "@aws-sdk/client-dynamodb";
import * as z from "zod";
import type { DomainEvent } from "./event-catalog.ts";
import { upcast } from "./event-catalog.ts";
import { type Commit, type EventLog, shardOf, VersionConflict } from "./event-log.ts";
import { positionSource } from "./ids.ts";

/**
 * The event log in DynamoDB: one item per commit, keyed by (stream, version). The write is
 * conditional on the key being new, which makes it atomic and gives a concurrent writer a conflict;
 * no transaction is needed. An index by (shard, position) gives the global order.
 */
export const eventTable = {
  hashKey: "stream",
  rangeKey: "version",
  orderIndex: "order",
  orderHashKey: "shard",
  orderRangeKey: "position",
} as const;

/** The largest item is DynamoDB's 400 KB; this leaves room for keys and the index. */
const maxCommitBytes = 380 * 1024;

/** The event log in a table of DynamoDB. `nextPosition` gives ascending positions (ULIDs). */
export function dynamoDbEventLog(
  client: DynamoDBClient,
  tableName: string,
  nextPosition: () => string = positionSource(),
): EventLog {
  return {
    async read(stream) {
      const commits: Commit[] = [];
      const pages = paginateQuery(
        { client },
        {
          TableName: tableName,
          ConsistentRead: true,
          KeyConditionExpression: "#stream = :stream",
          ExpressionAttributeNames: { "#stream": eventTable.hashKey },
          ExpressionAttributeValues: { ":stream": { S: stream } },
        },
      );
      for await (const page of pages) {
        for (const item of page.Items ?? []) commits.push(commitFromItem(item));
      }
      return commits;
    },

    async append(stream, expectedVersion, events) {
      const commit = { stream, version: expectedVersion + 1, position: nextPosition(), events };
      const body = bodyOf(stream, events);
      try {
        await client.send(
          new PutItemCommand({
            TableName: tableName,
            Item: itemFromCommit(commit, body),
            ConditionExpression: "attribute_not_exists(#stream)",
            ExpressionAttributeNames: { "#stream": eventTable.hashKey },
          }),
        );
      } catch (error) {
        if (error instanceof ConditionalCheckFailedException) {
          throw new VersionConflict(stream, commit.version, error);
        }
        throw error;
      }
      return commit;
    },

    readShard: (shard, after, limit) =>
      // DynamoDB refuses an empty key; every position is above a single zero.
      page(client, tableName, { shard, than: ">", position: after || "0", limit }),

    // Positions are of digits and capital letters, and all of them below a tilde.
    readShardBack: (shard, before, limit) =>
      page(client, tableName, { shard, than: "<", position: before || "~", limit }),
  };
}

/**
 * Commits of one shard in the global order that are after a position, or before it, newest first. A query ends
 * with a megabyte, however few commits that is, and goes on behind it: fewer than `limit` means no more.
 */
async function page(
  client: DynamoDBClient,
  tableName: string,
  {
    shard,
    than,
    position,
    limit,
  }: { shard: number; than: "<" | ">"; position: string; limit: number },
): Promise<Commit[]> {
  const commits: Commit[] = [];
  let from: Record<string, AttributeValue> | undefined;
  do {
    const { Items = [], LastEvaluatedKey }: QueryCommandOutput = await client.send(
      new QueryCommand({
        TableName: tableName,
        IndexName: eventTable.orderIndex,
        KeyConditionExpression: `#shard = :shard AND #position ${than} :position`,
        ExpressionAttributeNames: {
          "#shard": eventTable.orderHashKey,
          "#position": eventTable.orderRangeKey,
        },
        ExpressionAttributeValues: {
          ":shard": { N: String(shard) },
          ":position": { S: position },
        },
        ScanIndexForward: than === ">",
        Limit: limit - commits.length,
        ExclusiveStartKey: from,
      }),
    );
    commits.push(...Items.map(commitFromItem));
    from = LastEvaluatedKey;
  } while (from !== undefined && commits.length < limit);
  return commits;
}

/** @throws RangeError when no item could hold the events. */
function bodyOf(stream: string, events: DomainEvent[]): string {
  const body = JSON.stringify(events);
  const bytes = Buffer.byteLength(body);
  if (bytes <= maxCommitBytes) return body;
  throw new RangeError(`A commit to ${stream} is ${bytes} bytes; the most is ${maxCommitBytes}.`);
}

const itemSchema = z.object({
  stream: z.object({ S: z.string() }),
  version: z.object({ N: z.coerce.number() }),
  position: z.object({ S: z.string() }),
  events: z.object({ S: z.string() }),
});

/**
 * Reads a commit from its item, as a query or the table's stream (NewImage) gives it.
 * @throws z.ZodError when the item is no commit.
 */
export function commitFromItem(item: unknown): Commit {
  const { stream, version, position, events } = itemSchema.parse(item);
  const stored = z.array(z.unknown()).parse(JSON.parse(events.S));
  return {
    stream: stream.S,
    version: version.N,
    position: position.S,
    events: stored.map((event) => upcast(event)),
  };
}

/** The item of a commit; also the NewImage that the table's stream shows for it. */
export function itemFromCommit(
  commit: Commit,
  body: string = JSON.stringify(commit.events satisfies DomainEvent[]),
): Record<string, AttributeValue> {
  return {
    stream: { S: commit.stream },
    version: { N: String(commit.version) },
    shard: { N: String(shardOf(commit.stream)) },
    position: { S: commit.position },
    events: { S: body },
  };
}
