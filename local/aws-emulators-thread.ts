import { parentPort, workerData } from "node:worker_threads";
import dynalite from "dynalite";
import { buildApp } from "fauxqs";
import type { EmulatorThreadData } from "./aws-emulators.ts";

/** The thread of aws-emulators.ts: says "ready" once it listens, ends when it is told "stop". */
const { sqsPort, dynamoDbPort, dynamoDbDir } = workerData as EmulatorThreadData;
const host = "127.0.0.1";
const closing: (() => Promise<unknown>)[] = [];

if (sqsPort !== undefined) {
  // fauxqs's own start function listens on every address.
  const app = buildApp({ logger: false });
  // It names queues by hosts like sqs.us-east-1.localhost, which not every resolver knows. They are where
  // they were asked for, which may be a proxy.
  app.addHook("onSend", async ({ headers }, _reply, payload) => {
    const names = /\.(CreateQueue|GetQueueUrl)$/.test(String(headers["x-amz-target"]));
    if (!names || typeof payload !== "string") return payload;
    return payload.replace(/http:\/\/sqs\.[^/]+/, `http://${headers.host}`);
  });
  // A long poll outlives a client that was killed: what it would bring goes back to the queue at once,
  // instead of being hidden from everyone for its visibility timeout.
  app.addHook("onSend", async ({ headers, body, raw }, _reply, payload) => {
    const isPoll = String(headers["x-amz-target"]).endsWith(".ReceiveMessage");
    if (!isPoll || !raw.socket.destroyed || typeof payload !== "string") return payload;
    const { QueueUrl } = body as { QueueUrl: string };
    const { Messages = [] } = JSON.parse(payload) as { Messages?: { ReceiptHandle: string }[] };
    for (const { ReceiptHandle } of Messages) {
      await app.inject({
        method: "POST",
        url: "/",
        headers: {
          "content-type": "application/x-amz-json-1.0",
          "x-amz-target": "AmazonSQS.ChangeMessageVisibility",
        },
        payload: JSON.stringify({ QueueUrl, ReceiptHandle, VisibilityTimeout: 0 }),
      });
    }
    return payload;
  });
  await app.listen({ host, port: sqsPort });
  closing.push(() => app.close());
}

if (dynamoDbPort !== undefined) {
  const server = dynalite({
    createTableMs: 0,
    deleteTableMs: 0,
    ...(dynamoDbDir === undefined ? {} : { path: dynamoDbDir }),
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(dynamoDbPort, host, resolve);
  });
  closing.push(async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  });
}

parentPort?.on("message", async () => {
  await Promise.all(closing.map((close) => close()));
  process.exit(0);
});
parentPort?.postMessage({ type: "ready" });
