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
  const fromStream = (
    name: "dispatch" | "project",
    patience: Pick<
      aws.lambda.EventSourceMappingArgs,
      "maximumRetryAttempts" | "maximumRecordAgeInSeconds"
    >,
  ) => {
    const { name: functionName } = handlers[name];
    new aws.lambda.EventSourceMapping(`LogTo-${name}`, {
      eventSourceArn: log.streamArn,
      functionName,
      startingPosition: "TRIM_HORIZON",
      batchSize: 100,
      // Batches of one shard side by side; those of one stream of the log stay in order.
      parallelizationFactor: 4,
      functionResponseTypes: ["ReportBatchItemFailures"],
      bisectBatchOnFunctionError: true,
      destinationConfig: { onFailure: { destinationArn: queues.unprocessed.arn } },
      ...patience,
    });
    alarm(`LogTo-${name}Age`, {
      ...{ service: "Lambda", metric: "IteratorAge", statistic: "Maximum" },
      dimensions: { FunctionName: functionName },
      ...{ threshold: 60_000, minutes: 5 },
      description: `${name} is more than a minute behind the log. See its errors.`,
    });
  };
  // The history must not have holes, so it waits for PostgreSQL half a day before it skips a commit.
  fromStream("project", { maximumRetryAttempts: -1, maximumRecordAgeInSeconds: 12 * 3_600 });
  // What the outbox cannot send is sent by the sweep: it need not hold up the turns after it.
  fromStream("dispatch", { maximumRetryAttempts: 5, maximumRecordAgeInSeconds: 3_600 });

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
