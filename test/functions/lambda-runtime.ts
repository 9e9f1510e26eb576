import { Writable } from "node:stream";
import type { Context } from "aws-lambda";

/**
 * What Lambda's runtime does with a bundle, in a process of its own: loads it, and calls its handler with
 * each event, one at a time. Told over IPC by lambda-process.ts.
 */
export type Order =
  | { kind: "invoke"; id: number; event: unknown; timeoutMs: number }
  | { kind: "environment"; values: Record<string, string> };

export type Answer =
  | { kind: "loaded"; initMs: number }
  | { kind: "result"; id: number; result: unknown }
  | {
      kind: "error";
      id: number;
      error: { name: string; message: string; stack: string | undefined };
    };

const [, , file = ""] = process.argv;
const send = (answer: Answer) => process.send?.(answer);

function contextOf(id: number, timeoutMs: number): Context {
  const endsAt = Date.now() + timeoutMs;
  return {
    functionName: "function-of-the-test",
    functionVersion: "$LATEST",
    invokedFunctionArn: "arn:aws:lambda:us-east-1:000000000000:function:function-of-the-test",
    memoryLimitInMB: "512",
    awsRequestId: `invocation-${id}`,
    logGroupName: "test",
    logStreamName: "test",
    callbackWaitsForEmptyEventLoop: false,
    getRemainingTimeInMillis: () => Math.max(0, endsAt - Date.now()),
    ...{ done() {}, fail() {}, succeed() {} },
  };
}

/** What a function that streams has said: the head of its answer, and the pieces of its body. */
export interface Streamed {
  head: unknown;
  chunks: string[];
}

/** Handlers that were told to stream: they are given somewhere to write to. */
const streaming = new WeakSet<object>();
const heads = new WeakMap<Writable, unknown>();
Object.assign(globalThis, {
  awslambda: {
    streamifyResponse(handler: object) {
      streaming.add(handler);
      return handler;
    },
    HttpResponseStream: {
      from(stream: Writable, head: unknown) {
        heads.set(stream, head);
        return stream;
      },
    },
  },
});

type Streaming = (event: unknown, stream: Writable, context: Context) => Promise<void>;

async function streamed(handler: Streaming, event: unknown, context: Context): Promise<Streamed> {
  const chunks: string[] = [];
  const stream = new Writable({
    write(chunk, _encoding, done) {
      chunks.push(String(chunk));
      done();
    },
  });
  await handler(event, stream, context);
  return { head: heads.get(stream), chunks };
}

const startedAt = performance.now();
const { handler } = (await import(file)) as {
  handler: ((event: unknown, context: Context) => Promise<unknown>) & Streaming;
};
const initMs = performance.now() - startedAt;

process.on("message", async (order: Order) => {
  if (order.kind === "environment") {
    Object.assign(process.env, order.values);
    return;
  }
  const { id, event, timeoutMs } = order;
  try {
    const context = contextOf(id, timeoutMs);
    const result = streaming.has(handler)
      ? await streamed(handler, event, context)
      : await handler(event, context);
    send({ kind: "result", id, result });
  } catch (error) {
    const { name, message, stack } = error as Error;
    send({ kind: "error", id, error: { name, message, stack } });
  }
});
process.on("disconnect", () => process.exit(0));
send({ kind: "loaded", initMs });
