import { randomUUID } from "node:crypto";
import type { Context } from "aws-lambda";
import {
  InvocationTimeout,
  type SocketEvent,
  type SocketFunctions,
} from "../dataplane/relay/sockets.ts";

/** What Lambda tells a handler about its invocation. */
function lambdaContext(functionName: string, timeoutMs: number): Context {
  const endsAt = Date.now() + timeoutMs;
  return {
    functionName,
    functionVersion: "$LATEST",
    invokedFunctionArn: `arn:aws:lambda:us-east-1:000000000000:function:${functionName}`,
    memoryLimitInMB: "512",
    awsRequestId: randomUUID(),
    logGroupName: `/aws/lambda/${functionName}`,
    logStreamName: "local",
    callbackWaitsForEmptyEventLoop: false,
    getRemainingTimeInMillis: () => Math.max(0, endsAt - Date.now()),
    done() {},
    fail() {},
    succeed() {},
  };
}

/**
 * Invokes a handler as Lambda does, and stops waiting after `timeoutMs`.
 * @throws InvocationTimeout, or whatever the handler throws.
 */
export async function invoke<Event, Result>(
  functionName: string,
  handler: (event: Event, context: Context) => Promise<Result>,
  event: Event,
  timeoutMs: number,
): Promise<Result> {
  const context = lambdaContext(functionName, timeoutMs);
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new InvocationTimeout(`${functionName} ran for ${timeoutMs} ms.`)),
      timeoutMs,
    );
  });
  try {
    return await Promise.race([handler(event, context), timeout]);
  } finally {
    clearTimeout(timer);
  }
}

export type LambdaFunction<Event> = (event: Event, context: Context) => Promise<unknown>;

/** Handlers by route key, as what is behind the routes of a WebSocket. */
export function handlerFunctions(
  handlers: Readonly<Record<string, LambdaFunction<SocketEvent>>>,
  timeoutMs: number,
): SocketFunctions {
  return {
    has: (route) => Object.hasOwn(handlers, route),
    async invoke(route, event) {
      const handler = handlers[route];
      return handler && invoke(route, handler, event, timeoutMs);
    },
  };
}
