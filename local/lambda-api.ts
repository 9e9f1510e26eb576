import { createServer } from "node:http";
import { InvocationTimeout } from "../dataplane/relay/sockets.ts";
import { readBody } from "./gateway-callbacks.ts";
import { invoke, type LambdaFunction } from "./lambda-context.ts";
import { listenError } from "./part.ts";

export interface LambdaApi {
  stop(): Promise<void>;
}

/** Routes such as $connect come encoded. What is no encoding is nobody's name. */
function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

/** Lambda's own limit for a payload. */
const maxPayloadBytes = 6 * 1024 * 1024;
const path = /^\/2015-03-31\/functions\/([^/]+)\/invocations$/;

/**
 * The Invoke operation of Lambda's API, on a port of its own: it runs handlers by name for whoever signs
 * as this stage does. Browsers cannot: the header makes them ask first, and nobody answers.
 * Protocol: https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
 */
export async function startLambdaApi<Event>(
  functions: Readonly<Record<string, LambdaFunction<Event>>>,
  { accessKeyId, timeoutMs, port }: { accessKeyId: string; timeoutMs: number; port: number },
): Promise<LambdaApi> {
  async function run(name: string, payload: Buffer): Promise<{ body: string; failed: boolean }> {
    const handler = functions[name];
    if (handler === undefined) throw new RangeError(`There is no function ${name}.`);
    try {
      const event = JSON.parse(payload.toString("utf8")) as Event;
      const result = await invoke(name, handler, event, timeoutMs);
      return { body: JSON.stringify(result ?? null), failed: false };
    } catch (error) {
      const { message: errorMessage } = error as Error;
      const errorType = error instanceof InvocationTimeout ? "Sandbox.Timedout" : "Error";
      return { body: JSON.stringify({ errorType, errorMessage }), failed: true };
    }
  }

  const server = createServer(async (request, response) => {
    const refuse = (status: number, type: string, message: string): void => {
      response.writeHead(status, { "content-type": "application/json", "x-amzn-errortype": type });
      response.end(JSON.stringify({ Message: message }));
    };
    const payload = await readBody(request, maxPayloadBytes).catch(() => undefined);
    const { authorization = "" } = request.headers;
    if (!authorization.startsWith(`AWS4-HMAC-SHA256 Credential=${accessKeyId}`)) {
      return refuse(403, "AccessDeniedException", "The signature is not this stage's.");
    }
    if (payload === undefined) return refuse(413, "RequestTooLargeException", "Payload too large");
    const name = decoded(path.exec(request.url ?? "")?.[1] ?? "");
    if (request.method !== "POST" || !Object.hasOwn(functions, name)) {
      return refuse(404, "ResourceNotFoundException", `There is no function ${name}.`);
    }
    const { body, failed } = await run(name, payload);
    response.writeHead(200, {
      "content-type": "application/json",
      ...(failed && { "x-amz-function-error": "Unhandled" }),
    });
    response.end(body);
  });
  server.keepAliveTimeout = 65_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(listenError(error, port)));
    server.listen(port, "127.0.0.1", resolve);
  });
  return {
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}
