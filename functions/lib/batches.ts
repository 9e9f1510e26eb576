import type {
  Context,
  DynamoDBBatchResponse,
  DynamoDBStreamEvent,
  SQSBatchResponse,
  SQSEvent,
  SQSRecord,
} from "aws-lambda";
import type { Commit } from "../../events/event-log.ts";
import { commitFromItem } from "../../events/event-log-dynamodb.ts";
import { parseTraceparent } from "../../events/tracing/trace-context.ts";
import type { Span } from "../../events/tracing/tracing.ts";
import { toAxonError } from "./failures.ts";
import type { RequestLog } from "./request-log.ts";
import { logRefusal, type StackDeps, stack } from "./stack.ts";
import { inSpan } from "./turn-span.ts";

/**
 * Batches of records, from a queue or from the table's stream. Records of one group are handled one
 * after the other, groups side by side; after a record that fails, the rest of its group fails too,
 * because it may build on what is missing.
 */
async function failedOf<Record>(
  records: readonly Record[],
  groupOf: (record: Record) => string,
  handle: (record: Record) => Promise<void>,
): Promise<Set<Record>> {
  const failed = new Set<Record>();
  const groups = Map.groupBy(records, groupOf);
  await Promise.all(
    [...groups.values()].map(async (group) => {
      for (const [index, record] of group.entries()) {
        try {
          await handle(record);
        } catch {
          for (const rest of group.slice(index)) failed.add(rest);
          return;
        }
      }
    }),
  );
  return failed;
}

async function handleLogged(log: RequestLog, handle: () => Promise<void>): Promise<void> {
  try {
    await handle();
  } catch (error) {
    logRefusal(log, toAxonError(error), { isAnswered: true });
    throw error;
  }
}

function tellBatch(log: RequestLog, records: number, failures: number): void {
  log.measure("BatchSize", records);
  log.measure("BatchFailures", failures);
}

export type QueueHandler = (event: SQSEvent, context: Context) => Promise<SQSBatchResponse>;

/** The handler of a queue. A message that fails comes again, and at last joins the dead letters. */
export function queueHandler(
  deps: StackDeps,
  handle: (body: string, log: RequestLog, span: Span | undefined) => Promise<void>,
): QueueHandler {
  return stack(deps, { keysOf: () => ({}) }, async (event, { log }) => {
    const failed = await failedOf(
      event.Records,
      (record) => record.attributes.MessageGroupId ?? record.messageId,
      async (record) => {
        const own = log.fork();
        own.add({ messageId: record.messageId });
        const { tracing } = deps;
        const start = tracing && messageSpan(record);
        await inSpan(deps, start, own, (span) =>
          handleLogged(own, () => handle(record.body, own, span)),
        );
      },
    );
    tellBatch(log, event.Records.length, failed.size);
    return {
      batchItemFailures: [...failed].map(({ messageId }) => ({ itemIdentifier: messageId })),
    };
  });
}

/** The span of a message, in the trace that its sender names: there only where the sender was traced. */
function messageSpan({ eventSourceARN, messageId, messageAttributes, attributes }: SQSRecord) {
  const parent = parseTraceparent(messageAttributes["traceparent"]?.stringValue);
  if (!parent?.isSampled) return undefined;
  const queue = eventSourceARN.split(":").at(-1) ?? "";
  return {
    name: `process ${queue}`,
    kind: "consumer" as const,
    parent,
    attributes: {
      "faas.trigger": "pubsub",
      "messaging.system": "aws_sqs",
      "messaging.operation.name": "process",
      "messaging.operation.type": "process",
      "messaging.destination.name": queue,
      "messaging.message.id": messageId,
      "axon.receive_count": Number(attributes.ApproximateReceiveCount),
    },
  };
}

export type TableStreamHandler = (
  event: DynamoDBStreamEvent,
  context: Context,
) => Promise<DynamoDBBatchResponse>;

/**
 * The handler of the event table's stream. Lambda goes on from the first record that failed, so the
 * ones after it are handled again: `handle` must not mind seeing a commit twice.
 */
export function tableStreamHandler(
  deps: StackDeps,
  handle: (commit: Commit, log: RequestLog) => Promise<void>,
): TableStreamHandler {
  return stack(deps, { keysOf: () => ({}) }, async (event, { log }) => {
    // A commit is never changed; an item that goes away was erased or has expired.
    const inserts = event.Records.filter(({ eventName }) => eventName === "INSERT");
    const failed = await failedOf(
      inserts,
      (record) => record.dynamodb?.Keys?.["stream"]?.S ?? "",
      async ({ dynamodb }) => {
        const own = log.fork();
        own.add({ stream: dynamodb?.Keys?.["stream"]?.S ?? "?" });
        await handleLogged(own, () => handle(commitFromItem(dynamodb?.NewImage), own));
      },
    );
    tellBatch(log, inserts.length, failed.size);
    const first = event.Records.find((record) => failed.has(record));
    const itemIdentifier = first?.dynamodb?.SequenceNumber;
    if (first !== undefined && itemIdentifier === undefined) {
      throw new Error("A record of the table's stream has no sequence number.");
    }
    return { batchItemFailures: itemIdentifier === undefined ? [] : [{ itemIdentifier }] };
  });
}
