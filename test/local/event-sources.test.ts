import {
  GetQueueAttributesCommand,
  ReceiveMessageCommand,
  SendMessageCommand,
  SQSClient,
} from "@aws-sdk/client-sqs";
import type { SQSEvent } from "aws-lambda";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { Commit } from "../../events/event-log.ts";
import { commitFromItem } from "../../events/event-log-dynamodb.ts";
import { positionSource } from "../../events/ids.ts";
import {
  type EventSource,
  type QueueSourceOptions,
  queueSource,
  schedule,
  tableStreamHandle,
} from "../../local/event-sources.ts";
import { eventually } from "../support/eventually.ts";
import { awsClientConfig, freshQueue } from "../support/parts.ts";

let sqs: SQSClient;
beforeAll(() => {
  sqs = new SQSClient(awsClientConfig("sqs"));
});
afterAll(() => sqs.destroy());

const sources: EventSource[] = [];
afterEach(async () => {
  await Promise.all(sources.splice(0).map((source) => source.stop()));
});

function start(queueUrl: string, options: Pick<QueueSourceOptions, "handler" | "onError">): void {
  sources.push(queueSource({ name: "test", sqs, queueUrl, ...options }));
}

async function left(QueueUrl: string): Promise<number> {
  const { Attributes = {} } = await sqs.send(
    new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ["All"] }),
  );
  const { ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible } = Attributes;
  return Number(ApproximateNumberOfMessages) + Number(ApproximateNumberOfMessagesNotVisible);
}

test("what was handled is deleted, what failed comes again, and at last is a dead letter", async () => {
  const { url, deadLetterUrl } = await freshQueue({ visibilityTimeoutSeconds: 1 });
  const received: string[] = [];
  const errors: unknown[] = [];
  for (const MessageBody of ["good", "bad", "fine"]) {
    await sqs.send(new SendMessageCommand({ QueueUrl: url, MessageBody }));
  }
  start(url, {
    onError: (error) => errors.push(error),
    handler: async ({ Records }: SQSEvent) => {
      received.push(...Records.map(({ body }) => body));
      const failed = Records.filter(({ body }) => body === "bad");
      return { batchItemFailures: failed.map(({ messageId }) => ({ itemIdentifier: messageId })) };
    },
  });
  const dead = await eventually(async () => {
    const { Messages } = await sqs.send(
      new ReceiveMessageCommand({ QueueUrl: deadLetterUrl, WaitTimeSeconds: 1 }),
    );
    return Messages?.[0]?.Body;
  }, 20_000);
  expect(dead).toBe("bad");
  expect(received.filter((body) => body === "bad")).toHaveLength(5);
  expect(received.filter((body) => body !== "bad").sort()).toEqual(["fine", "good"]);
  expect(await left(url)).toBe(0);
  expect(errors).toEqual([]);
});

test("a batch whose handler throws comes again as a whole", async () => {
  const { url } = await freshQueue({ visibilityTimeoutSeconds: 1 });
  const errors: unknown[] = [];
  let calls = 0;
  await sqs.send(new SendMessageCommand({ QueueUrl: url, MessageBody: "x" }));
  start(url, {
    onError: (error) => errors.push(error),
    handler: async () => {
      if (++calls === 1) throw new Error("store is away");
      return { batchItemFailures: [] };
    },
  });
  await eventually(() => calls === 2);
  await eventually(async () => (await left(url)) === 0);
  expect(errors).toEqual([new Error("store is away")]);
});

test("messages of a FIFO group are handled in order, also around one that failed", async () => {
  const { url } = await freshQueue({ fifo: true, visibilityTimeoutSeconds: 1 });
  for (const group of ["a", "b"]) {
    for (let i = 1; i <= 3; i++) {
      await sqs.send(
        new SendMessageCommand({
          ...{ QueueUrl: url, MessageBody: `${group}${i}`, MessageGroupId: group },
          MessageDeduplicationId: `${group}${i}`,
        }),
      );
    }
  }
  const handled: string[] = [];
  let failures = 1;
  start(url, {
    onError: () => undefined,
    handler: async ({ Records }: SQSEvent) => {
      expect(Records[0]?.attributes.MessageGroupId).toMatch(/^[ab]$/);
      const failed = Records.filter(({ body }) => body === "a2" && failures-- > 0);
      handled.push(...Records.filter((record) => !failed.includes(record)).map(({ body }) => body));
      return { batchItemFailures: failed.map(({ messageId }) => ({ itemIdentifier: messageId })) };
    },
  });
  await eventually(() => handled.length >= 6);
  expect(handled.filter((body) => body.startsWith("a"))).toEqual(["a1", "a2", "a3"]);
  expect(handled.filter((body) => body.startsWith("b"))).toEqual(["b1", "b2", "b3"]);
});

const nextPosition = positionSource();
const commit = (version: number): Commit => ({
  stream: "conversation/c",
  version,
  position: nextPosition(),
  events: [
    {
      ...{ type: "ConversationStarted", version: 1, at: 1 },
      ...{ conversationId: "c", tenantId: "t", title: "x" },
    },
  ],
});

test("a handler of the table's stream gets records of DynamoDB's shape", async () => {
  const written = commit(1);
  let seen: unknown;
  const handle = tableStreamHandle("test", async ({ Records }) => {
    const [record] = Records;
    expect(record).toMatchObject({ eventName: "INSERT", eventSource: "aws:dynamodb" });
    expect(record?.dynamodb?.Keys).toEqual({
      stream: { S: "conversation/c" },
      version: { N: "1" },
    });
    expect(record?.dynamodb?.SequenceNumber).toBe(written.position);
    seen = commitFromItem(record?.dynamodb?.NewImage);
    return { batchItemFailures: [] };
  });
  expect(await handle([written])).toBe(1);
  expect(seen).toEqual(written);
});

test("a partial batch of the table's stream counts up to the first failure", async () => {
  const commits = [commit(1), commit(2), commit(3)];
  const failing = (itemIdentifier: string) =>
    tableStreamHandle("test", async () => ({ batchItemFailures: [{ itemIdentifier }] }));
  expect(await failing(commits[1]?.position ?? "")(commits)).toBe(1);
  expect(await failing("nobody knows this one")(commits)).toBe(0);
});

test("a schedule ticks again after a failure, never twice at a time, and not after its stop", async () => {
  let ticks = 0;
  let running = 0;
  let overlapped = false;
  const errors: unknown[] = [];
  const source = schedule(
    1,
    async () => {
      overlapped ||= ++running > 1;
      await new Promise((resolve) => setTimeout(resolve, 5));
      running--;
      if (++ticks === 1) throw new Error("first");
    },
    (error) => errors.push(error),
  );
  await eventually(() => ticks >= 3);
  await source.stop();
  const after = ticks;
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect({ ticks, overlapped, errors }).toEqual({
    ticks: after,
    overlapped: false,
    errors: [new Error("first")],
  });
});
