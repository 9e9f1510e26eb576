import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { APIGatewayProxyEventV2, Context, StreamifyHandler } from "aws-lambda";
import type { Deps } from "./deps.ts";
import { lambda } from "./lambda.ts";
import { isClientGone } from "./openai/event-stream.ts";
import type { Provider } from "./provider.ts";

/** An answer to an HTTP request whose body may still be growing. */
export interface StreamedResponse {
  statusCode: number;
  headers: Record<string, string>;
  body: string | Readable;
}

/** Lambda's context, and what a server knows beyond it. */
export interface StreamingContext extends Context {
  /** Aborted when the client has gone. Lambda does not tell. */
  clientGone?: AbortSignal;
}

export type StreamingHandler = (
  event: APIGatewayProxyEventV2,
  context: StreamingContext,
) => Promise<StreamedResponse>;

type LambdaStreaming = StreamifyHandler<APIGatewayProxyEventV2, void>;

/**
 * A function whose answers are streamed to its URL (RESPONSE_STREAM): status and headers go ahead of the
 * body, which goes as fast as it is taken. The runtime's part is added where there is a runtime; a process
 * that imports the module for its factory has none.
 * Source: https://docs.aws.amazon.com/lambda/latest/dg/config-rs-write-functions.html
 */
export function streamingLambda<Name extends keyof Deps>(
  make: (deps: Pick<Deps, NoInfer<Name> | "now" | "logger">) => StreamingHandler,
  providers: readonly Provider<Name>[],
): LambdaStreaming {
  const runtime = lambdaRuntime();
  const answer = lambda(make, providers);
  const streamed: LambdaStreaming = async (event, stream, context) => {
    if (runtime === undefined) throw new Error("Only Lambda's runtime can stream this function.");
    const { body, ...head } = await answer(event, context);
    const response = runtime.HttpResponseStream.from(stream, head);
    try {
      await pipeline(typeof body === "string" ? [body] : body, response);
    } catch (error) {
      if (!isClientGone(error)) throw error;
    }
  };
  return runtime === undefined ? streamed : runtime.streamifyResponse(streamed);
}

/** Undefined outside of Lambda, where some of AWS's packages make an empty one. */
function lambdaRuntime(): typeof awslambda | undefined {
  const { awslambda: found } = globalThis as { awslambda?: typeof awslambda };
  return typeof found?.streamifyResponse === "function" ? found : undefined;
}
