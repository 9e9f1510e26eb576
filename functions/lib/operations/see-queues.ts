import { GetQueueAttributesCommand, QueueDoesNotExist, type SQSClient } from "@aws-sdk/client-sqs";
import * as z from "zod";
import type { SeenQueue } from "../../../events/views.ts";
import type { OperatorDeps } from "./operator.ts";

/** A queue of the deployment and where its undeliverable messages go. */
export interface KnownQueue {
  name: string;
  kind: "jobs" | "reports";
  revision: string | null;
  url: string;
}

export interface QueueFacts extends KnownQueue {
  waiting: number;
  inFlight: number;
  /** Undefined where it has none. */
  deadLetterUrl: string | undefined;
}

/** Each revision's queue of jobs, and the reports'. */
export function knownQueues({
  models,
  facts,
}: Pick<OperatorDeps, "models" | "facts">): KnownQueue[] {
  const jobs = models.all().map(({ revision, queueUrl }): KnownQueue => {
    return { name: nameOf(queueUrl), kind: "jobs", revision, url: queueUrl };
  });
  const reports = facts.reportsQueueUrl;
  // Revisions may share a queue.
  const byUrl = new Map(jobs.toReversed().map((queue) => [queue.url, queue]));
  return [
    ...[...byUrl.values()].reverse(),
    { name: nameOf(reports), kind: "reports", revision: null, url: reports },
  ];
}

const nameOf = (url: string): string => url.slice(url.lastIndexOf("/") + 1);

const redriveSchema = z.object({ deadLetterTargetArn: z.string() });

/** @returns undefined for a queue that is not there (any more). */
export async function queueFacts(
  sqs: SQSClient,
  queue: KnownQueue,
): Promise<QueueFacts | undefined> {
  try {
    const { Attributes = {} } = await sqs.send(
      new GetQueueAttributesCommand({ QueueUrl: queue.url, AttributeNames: ["All"] }),
    );
    const { RedrivePolicy: policy } = Attributes;
    const dead =
      policy === undefined
        ? undefined
        : redriveSchema.parse(JSON.parse(policy)).deadLetterTargetArn;
    return {
      ...queue,
      waiting: Number(Attributes["ApproximateNumberOfMessages"] ?? 0),
      inFlight: Number(Attributes["ApproximateNumberOfMessagesNotVisible"] ?? 0),
      // Both queues are of one account and region.
      deadLetterUrl:
        dead && `${queue.url.slice(0, queue.url.lastIndexOf("/"))}/${dead.split(":").at(-1)}`,
    };
  } catch (error) {
    if (error instanceof QueueDoesNotExist) return undefined;
    throw error;
  }
}

const oldestSchema = z.array(z.object({ revision: z.string(), oldest: z.date() }));

export async function seeQueues(
  deps: Pick<OperatorDeps, "sqs" | "database" | "models" | "facts" | "now">,
): Promise<SeenQueue[]> {
  const [{ rows }, queues] = await Promise.all([
    deps.database.query(
      `SELECT revision, min(requested_at) AS oldest FROM turns
       WHERE status = 'requested' GROUP BY revision`,
    ),
    Promise.all(knownQueues(deps).map((queue) => queueFacts(deps.sqs, queue))),
  ]);
  const oldest = new Map(oldestSchema.parse(rows).map((row) => [row.revision, row.oldest]));
  const seen = queues
    .filter((queue) => queue !== undefined)
    .map(async (queue): Promise<SeenQueue> => {
      const { deadLetterUrl, url: _, ...facts } = queue;
      const dead = deadLetterUrl && (await queueFacts(deps.sqs, { ...queue, url: deadLetterUrl }));
      const since = oldest.get(queue.revision ?? "")?.getTime();
      return {
        ...facts,
        oldestJobMs: since === undefined ? null : Math.max(0, deps.now() - since),
        deadLetters: dead ? dead.waiting + dead.inFlight : 0,
      };
    });
  return Promise.all(seen);
}
