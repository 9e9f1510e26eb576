import { eventTable } from "../events/event-log-dynamodb.ts";
import { isProduction, nameOf } from "./stage.ts";

export type Log = ReturnType<typeof log>;

/**
 * The event log: the one thing that cannot be made again. Its names come from where the code reads it.
 * The component's own link would allow everything on the table; `link` tells its name and allows nothing,
 * and who needs what stands in functions.ts.
 */
export function log() {
  const table = new sst.aws.Dynamo("Log", {
    fields: {
      [eventTable.hashKey]: "string",
      [eventTable.rangeKey]: "number",
      [eventTable.orderHashKey]: "number",
      [eventTable.orderRangeKey]: "string",
    },
    primaryIndex: { hashKey: eventTable.hashKey, rangeKey: eventTable.rangeKey },
    globalIndexes: {
      [eventTable.orderIndex]: {
        ...{ hashKey: eventTable.orderHashKey, rangeKey: eventTable.orderRangeKey },
        projection: "all",
      },
    },
    stream: "new-image",
    deletionProtection: isProduction(),
    transform: {
      table: {
        name: nameOf("events"),
        // 35 days is the most that there is.
        pointInTimeRecovery: { enabled: true, recoveryPeriodInDays: isProduction() ? 35 : 1 },
        serverSideEncryption: { enabled: true },
      },
    },
  });
  const link = new sst.Linkable("EventsTable", { properties: { name: table.name } });
  return { table, link, streamArn: table.nodes.table.streamArn };
}
