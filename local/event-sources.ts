import {
  DeleteMessageBatchCommand,
  type Message,
  ReceiveMessageCommand,
  type SQSClient,
} from "@aws-sdk/client-sqs";
import type {
  Context,
  DynamoDBBatchResponse,
  DynamoDBStreamEvent,
  SQSBatchResponse,
  SQSEvent,
  SQSRecord,
} from "aws-lambda";
import type { Commit } from "../events/event-log.ts";
import { eventTable, itemFromCommit } from "../events/event-log-dynamodb.ts";
import { pause } from "./bell.ts";
import { invoke } from "./lambda-context.ts";

/** What Lambda's event source mappings do: they turn queues, the table's stream and time into calls. */

/** A source that runs until it is stopped; stopping waits for the call in hand. */
export interface EventSource {
  stop(): Promise<void>;
}

/** Lambda's own default for a function; its sources wait no longer. */
const functionTimeoutMs = 30_000;

export interface QueueSourceOptions {
  name: string;
  sqs: SQSClient;
  queueUrl: string;
  handler: (event: SQSEvent, context: Context) => Promise<SQSBatchResponse>;
  onError: (error: unknown) => void;
  /** Batches that are handled at the same time. */
  concurrency?: number;
}

/**
 * Invokes a handler with batches of a queue's messages and deletes those that it handled. The others
 * come again when their visibility ends. SQS itself keeps the order of a FIFO queue: while a message
 * of a group is in flight, the group's next ones are not given out.
 */
export function queueSource(options: QueueSourceOptions): EventSource {
  const stopping = new AbortController();
  const pollers = Array.from({ length: options.concurrency ?? 2 }, () =>
    pollQueue(options, stopping.signal),
  );
  return {
    async stop() {
      stopping.abort();
      await Promise.all(pollers);
    },
  };
}

async function pollQueue(options: QueueSourceOptions, signal: AbortSignal): Promise<void> {
  const { sqs, queueUrl, onError } = options;
  while (!signal.aborted) {
    try {
      const { Messages = [] } = await sqs.send(
        new ReceiveMessageCommand({
          QueueUrl: queueUrl,
          MaxNumberOfMessages: 10,
          WaitTimeSeconds: 20,
          MessageSystemAttributeNames: ["All"],
          MessageAttributeNames: ["All"],
        }),
        { abortSignal: signal },
      );
      if (Messages.length > 0) await handleBatch(options, Messages);
    } catch (error) {
      if (signal.aborted) return;
      onError(error);
      await pause(500, signal);
    }
  }
}

async function handleBatch(options: QueueSourceOptions, messages: Message[]): Promise<void> {
  const { name, sqs, queueUrl, handler } = options;
  const event = { Records: messages.map((message) => recordOf(message, queueUrl)) };
  const { batchItemFailures } = await invoke(name, handler, event, functionTimeoutMs);
  const failed = new Set(batchItemFailures.map(({ itemIdentifier }) => itemIdentifier));
  // An empty identifier means that nothing of the batch counts as handled.
  const handled = failed.has("")
    ? []
    : messages.filter(({ MessageId = "" }) => !failed.has(MessageId));
  if (handled.length === 0) return;
  await sqs.send(
    new DeleteMessageBatchCommand({
      QueueUrl: queueUrl,
      Entries: handled.map(({ ReceiptHandle }, index) => ({ Id: String(index), ReceiptHandle })),
    }),
  );
}

function recordOf(message: Message, queueUrl: string): SQSRecord {
  const {
    MessageId = "",
    ReceiptHandle = "",
    Body = "",
    MD5OfBody = "",
    Attributes = {},
    MessageAttributes = {},
  } = message;
  return {
    messageId: MessageId,
    receiptHandle: ReceiptHandle,
    body: Body,
    md5OfBody: MD5OfBody,
    attributes: {
      ApproximateReceiveCount: "1",
      SentTimestamp: "0",
      SenderId: "",
      ApproximateFirstReceiveTimestamp: "0",
      ...Attributes,
    },
    messageAttributes: Object.fromEntries(
      Object.entries(MessageAttributes).map(([name, { StringValue = "", DataType = "String" }]) => [
        name,
        {
          stringValue: StringValue,
          dataType: DataType,
          stringListValues: [],
          binaryListValues: [],
        },
      ]),
    ),
    eventSource: "aws:sqs",
    eventSourceARN: `arn:aws:sqs:us-east-1:000000000000:${queueUrl.split("/").at(-1)}`,
    awsRegion: "us-east-1",
  };
}

export type TableStreamFunction = (
  event: DynamoDBStreamEvent,
  context: Context,
) => Promise<DynamoDBBatchResponse>;

/**
 * A follower's `handle` that invokes a handler of the table's stream.
 * @returns how many commits were handled before the first that failed.
 */
export function tableStreamHandle(name: string, handler: TableStreamFunction) {
  return async (commits: readonly Commit[]): Promise<number> => {
    const event = { Records: commits.map(streamRecordOf) };
    const { batchItemFailures } = await invoke(name, handler, event, functionTimeoutMs);
    if (batchItemFailures.length === 0) return commits.length;
    // Lambda goes on from the lowest of the sequence numbers that are reported.
    const failed = new Set(batchItemFailures.map(({ itemIdentifier }) => itemIdentifier));
    const first = commits.findIndex(({ position }) => failed.has(position));
    return Math.max(0, first);
  };
}

function streamRecordOf(commit: Commit): DynamoDBStreamEvent["Records"][number] {
  const { stream, version, ...rest } = itemFromCommit(commit) as Record<
    string,
    { S: string } | { N: string }
  >;
  const keys = {
    [eventTable.hashKey]: stream ?? { S: commit.stream },
    [eventTable.rangeKey]: version ?? { N: String(commit.version) },
  };
  return {
    eventID: commit.position,
    eventName: "INSERT",
    eventVersion: "1.1",
    eventSource: "aws:dynamodb",
    awsRegion: "us-east-1",
    dynamodb: {
      ApproximateCreationDateTime: Math.floor(Date.now() / 1000),
      Keys: keys,
      NewImage: { ...keys, ...rest },
      SequenceNumber: commit.position,
      StreamViewType: "NEW_IMAGE",
    },
  };
}

/** Calls `tick` every `everyMs` from now on, never twice at the same time. */
export function schedule(
  everyMs: number,
  tick: () => Promise<unknown>,
  onError: (error: unknown) => void,
): EventSource {
  const stopping = new AbortController();
  const loop = async () => {
    while (!stopping.signal.aborted) {
      await pause(everyMs, stopping.signal);
      if (!stopping.signal.aborted) await tick().catch(onError);
    }
  };
  const running = loop();
  return {
    async stop() {
      stopping.abort();
      await running;
    },
  };
}
