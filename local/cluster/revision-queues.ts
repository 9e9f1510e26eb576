import {
  DeleteQueueCommand,
  GetQueueAttributesCommand,
  QueueDoesNotExist,
  type SQSClient,
} from "@aws-sdk/client-sqs";
import { createQueue, type QueuePair } from "../provision.ts";
import { queueOf, queueUrlOf } from "./queue-names.ts";

/** The queues of a stage's revisions: made when the first is wanted, and removed when nothing can be in them. */
export interface RevisionQueues {
  open(revision: string): Promise<QueuePair>;
  /** Removes a revision's queue, and that of its dead letters, if both are there and empty. */
  removeEmpty(revision: string): Promise<void>;
}

export function revisionQueues(sqs: SQSClient): RevisionQueues {
  const opened = new Map<string, Promise<QueuePair>>();
  return {
    open(revision) {
      let opening = opened.get(revision);
      if (opening === undefined) {
        opening = createQueue(sqs, queueOf(revision));
        opened.set(revision, opening);
        opening.catch(() => opened.delete(revision));
      }
      return opening;
    },
    async removeEmpty(revision) {
      const [any] = opened.values();
      if (any === undefined) return;
      const { url } = await any;
      const both = [queueUrlOf(url, revision), queueUrlOf(url, `${revision}-dead`)];
      const sizes = await Promise.all(both.map((queueUrl) => sizeOf(sqs, queueUrl)));
      if (sizes.some((size) => size !== 0)) return;
      opened.delete(revision);
      for (const QueueUrl of both) await sqs.send(new DeleteQueueCommand({ QueueUrl }));
    },
  };
}

const counters = [
  "ApproximateNumberOfMessages",
  "ApproximateNumberOfMessagesNotVisible",
  "ApproximateNumberOfMessagesDelayed",
] as const;

/** Messages in a queue, also those that somebody has taken; undefined where there is no such queue. */
async function sizeOf(sqs: SQSClient, QueueUrl: string): Promise<number | undefined> {
  try {
    const { Attributes = {} } = await sqs.send(
      new GetQueueAttributesCommand({ QueueUrl, AttributeNames: [...counters] }),
    );
    return counters.reduce((sum, name) => sum + Number(Attributes[name] ?? 0), 0);
  } catch (error) {
    if (error instanceof QueueDoesNotExist) return undefined;
    throw error;
  }
}
