import { randomUUID } from "node:crypto";
import {
  DeleteMessageCommand,
  GetQueueUrlCommand,
  QueueDoesNotExist,
  ReceiveMessageCommand,
  SendMessageCommand,
  SQSClient,
} from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { memoryEventLog } from "../../events/event-log-memory.ts";
import type { RolloutCommand } from "../../events/rollout.ts";
import { parseRolloutRequest } from "../../events/rollout-request.ts";
import { execute } from "../../functions/lib/execute.ts";
import { rollouts } from "../../functions/lib/streams.ts";
import { queueOf, queueUrlOf } from "../../local/cluster/queue-names.ts";
import { removeRetiredQueues } from "../../local/cluster/retired.ts";
import { revisionQueues } from "../../local/cluster/revision-queues.ts";
import { awsClientConfig } from "../support/parts.ts";

let sqs: SQSClient;
beforeAll(() => {
  sqs = new SQSClient(awsClientConfig("sqs"));
});
afterAll(() => sqs.destroy());

async function exists(QueueName: string): Promise<boolean> {
  try {
    await sqs.send(new GetQueueUrlCommand({ QueueName }));
    return true;
  } catch (error) {
    if (error instanceof QueueDoesNotExist) return false;
    throw error;
  }
}

test("each revision has a queue of its own, whose address follows from another's", async () => {
  const [one, two] = [randomUUID(), randomUUID()];
  const queues = revisionQueues(sqs);
  const first = await queues.open(one);
  const second = await queues.open(two);
  expect(second.url).not.toBe(first.url);
  expect(queueUrlOf(first.url, two)).toBe(second.url);
  expect(queueUrlOf(first.url, `${two}-dead`)).toBe(second.deadLetterUrl);
});

test("a queue is removed when its revision is retired and it is empty, and not before", async () => {
  const model = "m";
  const [own, next] = [randomUUID(), randomUUID()];
  const log = memoryEventLog();
  const tell = (command: object) =>
    execute(log, rollouts, model, () => ({ at: 1_000, model, ...command }) as RolloutCommand);
  const queues = revisionQueues(sqs);
  await queues.open(own);
  const { url } = await queues.open(next);
  const tidy = () => removeRetiredQueues({ log }, queues, { model, revision: own });

  const request = parseRolloutRequest({ rolloutId: "r", model, revision: next, by: "test" });
  await tell({ type: "StartRollout", request });
  await tidy();
  expect(await exists(queueOf(next))).toBe(true);
  await tell({ type: "AbortRollout", by: "test", reason: "" });
  await tidy();
  expect(await exists(queueOf(next))).toBe(true);
  await tell({ type: "DrainRevision", revision: next, reason: "" });
  await tell({ type: "ReportRetired", revision: next });

  await sqs.send(new SendMessageCommand({ QueueUrl: url, MessageBody: "a copy" }));
  await tidy();
  expect(await exists(queueOf(next))).toBe(true);
  const { Messages } = await sqs.send(new ReceiveMessageCommand({ QueueUrl: url }));
  await tidy();
  expect(await exists(queueOf(next))).toBe(true);
  const ReceiptHandle = Messages?.[0]?.ReceiptHandle;
  await sqs.send(new DeleteMessageCommand({ QueueUrl: url, ReceiptHandle }));
  await tidy();
  expect(await exists(queueOf(next))).toBe(false);
  expect(await exists(`${queueOf(next)}-dead`)).toBe(false);
  expect(await exists(queueOf(own))).toBe(true);
  await tidy();
  await queues.open(next);
  expect(await exists(queueOf(next))).toBe(true);
});
