import { paginateScan } from "@aws-sdk/client-dynamodb";
import * as z from "zod";
import type { Stage } from "./stage.ts";

/** Everything that the stores of a test's stage hold, as text: what a thief of their disks would read. */
export async function rawStores(stage: Stage): Promise<string> {
  const parts = await Promise.all([rawLog(stage), rawDatabase(stage), rawRedis(stage)]);
  return parts.join("\n");
}

/** All items of both tables. */
export async function rawLog({ dynamoDb, tableName, keyTableName }: Stage): Promise<string> {
  const items: unknown[] = [];
  for (const TableName of [tableName, keyTableName]) {
    const pages = paginateScan({ client: dynamoDb }, { TableName, ConsistentRead: true });
    for await (const { Items = [] } of pages) items.push(...Items);
  }
  return JSON.stringify(items);
}

const tablesSchema = z.array(z.object({ name: z.string() }));
const rowsSchema = z.array(z.object({ row: z.string() }));

/** All rows of all tables, of whichever schema. */
export async function rawDatabase({ deps: { database } }: Stage): Promise<string> {
  const { rows } = await database.query(
    `SELECT format('%I.%I', table_schema, table_name) AS name FROM information_schema.tables
     WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY name`,
  );
  const texts: string[] = [];
  for (const { name } of tablesSchema.parse(rows)) {
    const table = await database.query(`SELECT t::text AS row FROM ${name} t ORDER BY 1`);
    texts.push(name, ...rowsSchema.parse(table.rows).map(({ row }) => row));
  }
  return texts.join("\n");
}

/** All keys, whatever they are. */
export async function rawRedis({ deps: { redis } }: Stage): Promise<string> {
  const texts: string[] = [];
  for (const key of await redis.keys("*")) {
    const dump = await redis.dumpBuffer(key);
    // Short values are compressed or packed in a dump, so they are read by their kind, too.
    texts.push(key, dump?.toString("latin1") ?? "", JSON.stringify(await storedUnder(redis, key)));
  }
  return texts.join("\n");
}

async function storedUnder(redis: Stage["deps"]["redis"], key: string): Promise<unknown> {
  switch (await redis.type(key)) {
    case "string":
      return redis.get(key);
    case "hash":
      return redis.hgetall(key);
    case "stream":
      return redis.xrange(key, "-", "+");
    case "set":
      return redis.smembers(key);
    case "zset":
      return redis.zrange(key, "0", "-1");
    default:
      return null;
  }
}
