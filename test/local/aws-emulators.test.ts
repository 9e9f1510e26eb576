import { ReceiveMessageCommand, SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { awsClientConfig, freshQueue } from "../support/parts.ts";

let sqs: SQSClient;
beforeAll(() => {
  sqs = new SQSClient(awsClientConfig("sqs"));
});
afterAll(() => sqs.destroy());

test("a message that a dead client was waiting for goes to the next one at once", async () => {
  const { url: QueueUrl } = await freshQueue({ visibilityTimeoutSeconds: 60 });
  const receive = (client: SQSClient, signal?: AbortSignal) =>
    client.send(
      new ReceiveMessageCommand({ QueueUrl, WaitTimeSeconds: 5 }),
      signal === undefined ? {} : { abortSignal: signal },
    );
  const doomed = new SQSClient(awsClientConfig("sqs"));
  const killed = new AbortController();
  const polls = Promise.allSettled([
    receive(doomed, killed.signal),
    receive(doomed, killed.signal),
  ]);
  // The polls have to be waiting before they die.
  await receive(sqs, AbortSignal.timeout(200)).catch(() => {});
  killed.abort();
  await polls;
  doomed.destroy();
  await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: "here" }));
  const received = await eventually(async () => (await receive(sqs)).Messages?.[0], 8_000);
  expect(received.Body).toBe("here");
});
