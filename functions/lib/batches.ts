import type {
  Context,
  DynamoDBBatchResponse,
  DynamoDBStreamEvent,
  SQSBatchResponse,
  SQSEvent,
} from "aws-lambda";
import type { Commit } from "../../events/event-log.ts";
import { commitFromItem } from "../../events/event-log-dynamodb.ts";
import type { Deps } from "./deps.ts";
import { toAxonError } from "./failures.ts";
import type { RequestLog } from "./request-log.ts";
import { logRefusal, stack } from "./stack.ts";

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
    logRefusal(log, toAxonError(error));
    throw error;
  }
}

export type QueueHandler = (event: SQSEvent, context: Context) => Promise<SQSBatchResponse>;

/** The handler of a queue. A message that fails comes again, and at last joins the dead letters. */
export function queueHandler(
  deps: Pick<Deps, "logger">,
  handle: (body: string, log: RequestLog) => Promise<void>,
): QueueHandler {
  return stack(deps, { keysOf: () => ({}) }, async (event, { log }) => {
    const failed = await failedOf(
      event.Records,
      (record) => record.attributes.MessageGroupId ?? record.messageId,
      async ({ messageId, body }) => {
        const own = log.fork();
        own.add({ messageId });
        await handleLogged(own, () => handle(body, own));
      },
    );
    return {
      batchItemFailures: [...failed].map(({ messageId }) => ({ itemIdentifier: messageId })),
    };
  });
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
  deps: Pick<Deps, "logger">,
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
    const first = event.Records.find((record) => failed.has(record));
    const itemIdentifier = first?.dynamodb?.SequenceNumber;
    if (first !== undefined && itemIdentifier === undefined) {
      throw new Error("A record of the table's stream has no sequence number.");
    }
    return { batchItemFailures: itemIdentifier === undefined ? [] : [{ itemIdentifier }] };
  });
}
