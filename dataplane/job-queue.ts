import {
  ChangeMessageVisibilityBatchCommand,
  DeleteMessageBatchCommand,
  type Message,
  ReceiveMessageCommand,
  SendMessageCommand,
  type SQSClient,
} from "@aws-sdk/client-sqs";
import {
  type Job,
  jobSchema,
  messageBody,
  type Report,
  reportDeduplicationId,
} from "../events/jobs.ts";

/** One delivery of a job. Its receipt stands for it until the visibility timeout ends. */
export interface Delivery {
  job: Job;
  receipt: string;
  /** How often the queue has handed this message out. */
  receiveCount: number;
  /** The span of the job's sending. */
  traceparent?: string | undefined;
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
  /** `traceparent` names the span that the report comes from. */
  report(report: Report, traceparent?: string): Promise<void>;
}

export interface QueueUrls {
  jobsQueueUrl: string;
  deadLetterQueueUrl: string;
  reportsQueueUrl: string;
}

/** How long a delivery stays hidden before somebody renews it. A dead leader's jobs return after it. */
export const visibilitySeconds = 6;

export class SqsJobQueue implements JobQueue {
  readonly #sqs: SQSClient;
  readonly #urls: QueueUrls;
  readonly #onMalformed: (messageId: string, reason: string) => void;

  constructor(
    sqs: SQSClient,
    urls: QueueUrls,
    onMalformed: (messageId: string, reason: string) => void,
  ) {
    this.#sqs = sqs;
    this.#urls = urls;
    this.#onMalformed = onMalformed;
  }

  async receive(most: number, signal: AbortSignal): Promise<Delivery[]> {
    const { Messages = [] } = await this.#sqs.send(
      new ReceiveMessageCommand({
        QueueUrl: this.#urls.jobsQueueUrl,
        MaxNumberOfMessages: Math.min(10, most),
        WaitTimeSeconds: 20,
        VisibilityTimeout: visibilitySeconds,
        MessageSystemAttributeNames: ["ApproximateReceiveCount"],
        MessageAttributeNames: ["traceparent"],
      }),
      { abortSignal: signal },
    );
    const deliveries: Delivery[] = [];
    for (const message of Messages) {
      const receipt = message.ReceiptHandle ?? "";
      const parsed = parseJob(message.Body ?? "");
      if (typeof parsed === "string") {
        await this.#deadLetter(message, parsed);
        await this.delete([receipt]);
      } else {
        const receiveCount = Number(message.Attributes?.ApproximateReceiveCount ?? 1);
        const traceparent = message.MessageAttributes?.["traceparent"]?.StringValue;
        deliveries.push({ job: parsed, receipt, receiveCount, traceparent });
      }
    }
    return deliveries;
  }

  async hide(receipts: readonly string[], seconds: number): Promise<void> {
    const QueueUrl = this.#urls.jobsQueueUrl;
    for (const batch of inTens(receipts)) {
      const Entries = batch.map((ReceiptHandle, i) => ({
        Id: String(i),
        ReceiptHandle,
        VisibilityTimeout: seconds,
      }));
      // An entry that fails belongs to a message that is gone or shown again: nothing is left to hide.
      await this.#sqs.send(new ChangeMessageVisibilityBatchCommand({ QueueUrl, Entries }));
    }
  }

  async delete(receipts: readonly string[]): Promise<void> {
    const QueueUrl = this.#urls.jobsQueueUrl;
    for (const batch of inTens(receipts)) {
      const Entries = batch.map((ReceiptHandle, i) => ({ Id: String(i), ReceiptHandle }));
      await this.#sqs.send(new DeleteMessageBatchCommand({ QueueUrl, Entries }));
    }
  }

  async report(report: Report, traceparent?: string): Promise<void> {
    await this.#sqs.send(
      new SendMessageCommand({
        QueueUrl: this.#urls.reportsQueueUrl,
        MessageBody: messageBody(report),
        MessageGroupId: report.turnId,
        MessageDeduplicationId: reportDeduplicationId(report),
        ...(traceparent !== undefined && {
          MessageAttributes: { traceparent: { DataType: "String", StringValue: traceparent } },
        }),
      }),
    );
  }

  async #deadLetter(message: Message, reason: string): Promise<void> {
    await this.#sqs.send(
      new SendMessageCommand({
        QueueUrl: this.#urls.deadLetterQueueUrl,
        MessageBody: message.Body ?? "",
        MessageAttributes: {
          // It may name a field of the message, in characters that an attribute does not take.
          reason: { DataType: "String", StringValue: printable(reason).slice(0, 1_000) },
        },
      }),
    );
    this.#onMalformed(message.MessageId ?? "", reason);
  }
}

const printable = (text: string): string => text.replace(/[^\x20-\x7e]/g, "?");

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
