import type { Deployment, Revision } from "../cluster/deployment.ts";
import type { Alarm } from "./alarms.ts";
import { logicalName, nameOf } from "./stage.ts";

export type Queues = ReturnType<typeof queues>;

export interface QueuePair {
  queue: aws.sqs.Queue;
  dead: aws.sqs.Queue;
}

/** A message that was received this often without being deleted joins the dead letters. */
const maxReceives = 5;
/** Time to look at dead letters before they are gone: the most that SQS keeps anything. */
const deadSeconds = 14 * 86_400;

/** Of `functions/report`, whose batch must be over before its messages may come again. */
export const reportTimeoutSeconds = 20;

/**
 * One queue of jobs for each revision, and the reports. Priority needs no queue of its own: admission
 * sends interactive turns before batch ones, and few jobs are in a queue at a time.
 */
export function queues({ models }: Deployment, alarm: Alarm) {
  const jobs = new Map<string, QueuePair>();
  for (const revision of models.flatMap(({ revisions }) => revisions)) {
    jobs.set(revision.revision, jobsOf(revision, alarm));
  }
  // A turn's reports come in order, and those of different turns side by side.
  const reports = pair("Reports", "reports", alarm, {
    visibilityTimeoutSeconds: 6 * reportTimeoutSeconds,
    fifoQueue: true,
    deduplicationScope: "messageGroup",
    fifoThroughputLimit: "perMessageGroupId",
  });
  alarm("ReportsAge", {
    ...{ service: "SQS", metric: "ApproximateAgeOfOldestMessage", statistic: "Maximum" },
    dimensions: { QueueName: reports.queue.name },
    ...{ threshold: 60, minutes: 3 },
    description:
      "Answers are ready that the log does not know yet. See the errors of the function `report`.",
  });
  return { jobs, reports, unprocessed: unprocessed(alarm) };
}

/**
 * Where Lambda notes which records of the log's stream it has given up. The records themselves are in the
 * log: the note says where.
 */
function unprocessed(alarm: Alarm): aws.sqs.Queue {
  const queue = new aws.sqs.Queue("Unprocessed", {
    name: nameOf("log-unprocessed"),
    sqsManagedSseEnabled: true,
    messageRetentionSeconds: deadSeconds,
  });
  onlyEncryptedTransport("Unprocessed", queue);
  alarm("Unprocessed", {
    ...{ service: "SQS", metric: "ApproximateNumberOfMessagesVisible", statistic: "Maximum" },
    dimensions: { QueueName: queue.name },
    ...{ threshold: 0, minutes: 1 },
    description: "Commits of the log were skipped: mend the function, then rebuild its projection.",
  });
  return queue;
}

function jobsOf({ revision, slots, groups }: Revision, alarm: Alarm): QueuePair {
  const name = logicalName(revision);
  const made = pair(`Jobs${name}`, `jobs-${revision}`, alarm, {
    // The leader asks for its own, shorter one; this is for whoever looks into the queue by hand.
    visibilityTimeoutSeconds: 30,
    receiveWaitTimeSeconds: 20,
  });
  const dimensions = { QueueName: made.queue.name };
  alarm(`Jobs${name}Age`, {
    ...{
      service: "SQS",
      metric: "ApproximateAgeOfOldestMessage",
      statistic: "Maximum",
      dimensions,
    },
    ...{ threshold: 300, minutes: 5 },
    description: `Jobs of ${revision} wait for five minutes: its groups are gone, full, or cannot start.`,
  });
  alarm(`Jobs${name}Depth`, {
    ...{
      service: "SQS",
      metric: "ApproximateNumberOfMessagesVisible",
      statistic: "Minimum",
      dimensions,
    },
    // Admission lets in one job for each slot that is taken. More of them means that leaders take none.
    ...{ threshold: 2 * slots * groups.max, minutes: 5 },
    description: `More jobs of ${revision} are queued than admission lets in: is its leader alive?`,
  });
  return made;
}

/** A queue and its dead letters, which ring when there is one. */
function pair(
  logical: string,
  name: string,
  alarm: Alarm,
  options: Partial<aws.sqs.QueueArgs>,
): QueuePair {
  const suffix = options.fifoQueue ? ".fifo" : "";
  const common = {
    sqsManagedSseEnabled: true,
    ...(options.fifoQueue && { fifoQueue: true, contentBasedDeduplication: false }),
  };
  const dead = new aws.sqs.Queue(`${logical}Dead`, {
    ...common,
    name: nameOf(`${name}-dead${suffix}`),
    messageRetentionSeconds: deadSeconds,
  });
  const queue = new aws.sqs.Queue(logical, {
    ...common,
    ...options,
    name: nameOf(`${name}${suffix}`),
    messageRetentionSeconds: 4 * 86_400,
    redrivePolicy: $jsonStringify({ deadLetterTargetArn: dead.arn, maxReceiveCount: maxReceives }),
  });
  new aws.sqs.RedriveAllowPolicy(`${logical}Redrive`, {
    queueUrl: dead.url,
    redriveAllowPolicy: $jsonStringify({
      redrivePermission: "byQueue",
      sourceQueueArns: [queue.arn],
    }),
  });
  for (const [which, of] of [
    ["", queue],
    ["Dead", dead],
  ] as const) {
    onlyEncryptedTransport(`${logical}${which}`, of);
  }
  alarm(`${logical}Dead`, {
    ...{ service: "SQS", metric: "ApproximateNumberOfMessagesVisible", statistic: "Maximum" },
    dimensions: { QueueName: dead.name },
    ...{ threshold: 0, minutes: 1 },
    description: `${name} has dead letters: \`axon jobs dlq\` shows them, and tries them again.`,
  });
  return { queue, dead };
}

function onlyEncryptedTransport(logical: string, queue: aws.sqs.Queue): void {
  new aws.sqs.QueuePolicy(`${logical}Policy`, {
    queueUrl: queue.url,
    policy: aws.iam.getPolicyDocumentOutput({
      statements: [
        {
          effect: "Deny",
          principals: [{ type: "*", identifiers: ["*"] }],
          actions: ["sqs:*"],
          resources: [queue.arn],
          conditions: [{ test: "Bool", variable: "aws:SecureTransport", values: ["false"] }],
        },
      ],
    }).json,
  });
}
