import { conversationStream } from "../events/event-log.ts";
import { eventTable } from "../events/event-log-dynamodb.ts";
import type { Alarm } from "./alarms.ts";
import type { Functions } from "./functions.ts";
import type { Log } from "./log.ts";
import type { Queues } from "./queues.ts";

/**
 * What feeds the functions that nobody waits for: the table's stream and the reports. Handlers tell which
 * records they could not handle, so that the others of a batch do not come again with them.
 */
export function sources({
  log,
  queues,
  handlers,
  alarm,
}: {
  log: Log;
  queues: Queues;
  handlers: Functions;
  alarm: Alarm;
}): void {
  const noted = {
    startingPosition: "TRIM_HORIZON",
    // Batches of one shard side by side; those of one stream of the log stay in order.
    parallelizationFactor: 4,
    bisectBatchOnFunctionError: true,
    destinationConfig: { onFailure: { destinationArn: queues.unprocessed.arn } },
  };
  // The history must not have holes, so it waits for PostgreSQL half a day before it skips a commit.
  fromLog("project", handlers.project, log, alarm, {
    ...{ ...noted, maximumRetryAttempts: -1, maximumRecordAgeInSeconds: 12 * 3_600 },
  });
  // What the outbox cannot send is sent by the sweep: it need not hold up the turns after it.
  fromLog("dispatch", handlers.dispatch, log, alarm, {
    ...{ ...noted, maximumRetryAttempts: 5, maximumRecordAgeInSeconds: 3_600 },
  });
  // An erasure is owed: it waits for whatever is away, as the history does.
  const ofConversations = [{ prefix: conversationStream("") }];
  const pattern = { dynamodb: { Keys: { [eventTable.hashKey]: { S: ofConversations } } } };
  fromLog("erase", handlers.erase, log, alarm, {
    ...{ ...noted, maximumRetryAttempts: -1, maximumRecordAgeInSeconds: 12 * 3_600 },
    filterCriteria: { filters: [{ pattern: JSON.stringify(pattern) }] },
  });

  new aws.lambda.EventSourceMapping("ReportsToReport", {
    eventSourceArn: queues.reports.queue.arn,
    functionName: handlers.report.name,
    // The most that a FIFO queue gives.
    batchSize: 10,
    functionResponseTypes: ["ReportBatchItemFailures"],
    // So many hands are enough for the log, and leave the account's concurrency to those who chat.
    scalingConfig: { maximumConcurrency: 50 },
  });
}

type Patience = Omit<
  aws.lambda.EventSourceMappingArgs,
  "eventSourceArn" | "functionName" | "batchSize" | "functionResponseTypes"
>;

/** Tells a function of what is written to the log. */
export function fromLog(
  name: string,
  { name: functionName }: sst.aws.Function,
  log: Log,
  alarm: Alarm,
  patience: Patience,
): void {
  new aws.lambda.EventSourceMapping(`LogTo-${name}`, {
    eventSourceArn: log.streamArn,
    functionName,
    batchSize: 100,
    functionResponseTypes: ["ReportBatchItemFailures"],
    ...patience,
  });
  alarm(`LogTo-${name}Age`, {
    ...{ service: "Lambda", metric: "IteratorAge", statistic: "Maximum" },
    dimensions: { FunctionName: functionName },
    ...{ threshold: 60_000, minutes: 5 },
    description: `${name} is more than a minute behind the log. See its errors.`,
  });
}
