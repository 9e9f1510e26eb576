import { keyTable } from "../events/data-keys-dynamodb.ts";
import type { Key } from "./key.ts";
import { isProduction, nameOf } from "./stage.ts";

export type DataKeys = ReturnType<typeof dataKeys>;

/**
 * The keys that the words in the log are sealed with: whoever destroys one erases a conversation, in all of the
 * log's backups, too. So there are no backups of this table, by which a key could come back; that the table
 * itself is not lost is DynamoDB's own replication and the protection from being deleted. It is encrypted by a key
 * of ours: who reads the table needs the right to that key as well.
 */
export function dataKeys(key: Key) {
  const table = new sst.aws.Dynamo("DataKeys", {
    fields: { [keyTable.hashKey]: "string", [keyTable.tenantHashKey]: "string" },
    primaryIndex: { hashKey: keyTable.hashKey },
    globalIndexes: {
      [keyTable.tenantIndex]: {
        ...{ hashKey: keyTable.tenantHashKey, rangeKey: keyTable.hashKey },
        projection: "keys-only",
      },
    },
    deletionProtection: isProduction(),
    transform: {
      table: {
        name: nameOf("data-keys"),
        pointInTimeRecovery: { enabled: false },
        serverSideEncryption: { enabled: true, kmsKeyArn: key.arn },
      },
    },
  });
  const link = new sst.Linkable("DataKeysTable", { properties: { name: table.name } });
  return { table, link, keyArn: key.arn };
}
