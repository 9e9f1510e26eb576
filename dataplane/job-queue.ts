import {
  ChangeMessageVisibilityBatchCommand,
  DeleteMessageBatchCommand,
  type Message,
  ReceiveMessageCommand,
  SendMessageCommand,
  type SQSClient,
} from "@aws-sdk/client-sqs";
import { type Job, jobSchema, type Report, reportDeduplicationId } from "../events/jobs.ts";

/** One delivery of a job. Its receipt stands for it until the visibility timeout ends. */
export interface Delivery {
  job: Job;
  receipt: string;
  /** How often the queue has handed this message out. */
  receiveCount: number;
}

/** The leader's side of the queues: jobs come, reports go. */
export interface JobQueue {
  /**
   * Waits up to 20 s for at most `most` jobs. What is no job is moved to the dead-letter queue, with
   * the reason, and does not appear.
   */
  receive(most: number, signal: AbortSignal): Promise<Delivery[]>;
  /** Hides deliveries for so long from now on; 0 s gives them back at once. */
  hide(receipts: readonly string[], seconds: number): Promise<void>;
  delete(receipts: readonly string[]): Promise<void>;
  report(report: Report): Promise<void>;
}

export interface QueueUrls {
  jobsQueueUrl: string;
  deadLetterQueueUrl: string;
  reportsQueueUrl: string;
}

/** How long a delivery stays hidden before somebody renews it. A dead leader's jobs return after it. */
export const visibilitySeconds = 6;

export function sqsJobQueue(
  sqs: SQSClient,
  urls: QueueUrls,
  onMalformed: (messageId: string, reason: string) => void,
): JobQueue {
  const queueUrl = urls.jobsQueueUrl;

  async function deadLetter(message: Message, reason: string) {
    await sqs.send(
      new SendMessageCommand({
        QueueUrl: urls.deadLetterQueueUrl,
        MessageBody: message.Body ?? "",
        MessageAttributes: {
          reason: { DataType: "String", StringValue: reason.slice(0, 1_000) },
        },
      }),
    );
    onMalformed(message.MessageId ?? "", reason);
  }

  const queue: JobQueue = {
    async receive(most, signal) {
      const { Messages = [] } = await sqs.send(
        new ReceiveMessageCommand({
          QueueUrl: queueUrl,
          MaxNumberOfMessages: Math.min(10, most),
          WaitTimeSeconds: 20,
          VisibilityTimeout: visibilitySeconds,
          MessageSystemAttributeNames: ["ApproximateReceiveCount"],
        }),
        { abortSignal: signal },
      );
      const deliveries: Delivery[] = [];
      for (const message of Messages) {
        const receipt = message.ReceiptHandle ?? "";
        const parsed = parseJob(message.Body ?? "");
        if (typeof parsed === "string") {
          await deadLetter(message, parsed);
          await queue.delete([receipt]);
        } else {
          const receiveCount = Number(message.Attributes?.ApproximateReceiveCount ?? 1);
          deliveries.push({ job: parsed, receipt, receiveCount });
        }
      }
      return deliveries;
    },

    async hide(receipts, seconds) {
      for (const batch of inTens(receipts)) {
        const Entries = batch.map((ReceiptHandle, i) => ({
          Id: String(i),
          ReceiptHandle,
          VisibilityTimeout: seconds,
        }));
        // An entry that fails belongs to a message that is gone or shown again: nothing is left to hide.
        await sqs.send(new ChangeMessageVisibilityBatchCommand({ QueueUrl: queueUrl, Entries }));
      }
    },

    async delete(receipts) {
      for (const batch of inTens(receipts)) {
        const Entries = batch.map((ReceiptHandle, i) => ({ Id: String(i), ReceiptHandle }));
        await sqs.send(new DeleteMessageBatchCommand({ QueueUrl: queueUrl, Entries }));
      }
    },

    async report(report) {
      await sqs.send(
        new SendMessageCommand({
          QueueUrl: urls.reportsQueueUrl,
          MessageBody: JSON.stringify(report),
          MessageGroupId: report.turnId,
          MessageDeduplicationId: reportDeduplicationId(report),
        }),
      );
    },
  };
  return queue;
}

/** The job, or why it is none. */
function parseJob(body: string): Job | string {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return "The body is not JSON.";
  }
  const parsed = jobSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  return parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; ");
}

/** SQS takes ten entries a batch. */
function inTens<T>(items: readonly T[]): T[][] {
  const batches: T[][] = [];
  for (let i = 0; i < items.length; i += 10) batches.push(items.slice(i, i + 10));
  return batches;
}
