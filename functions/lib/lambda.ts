import { Logger } from "@aws-lambda-powertools/logger";
import type { Context } from "aws-lambda";
import { openTracing, type Tracing } from "../../events/tracing/tracing.ts";
import type { Deps } from "./deps.ts";
import { environmentWithLinks } from "./links.ts";
import { ConfigurationError, type Environment, type Provider, provide } from "./provider.ts";

type Handler<Event, Result> = (event: Event, context: Context) => Promise<Result>;

/**
 * A Lambda function: a handler whose dependencies are made from the environment and its SST links by the
 * first invocation, and live as long as the execution environment. Nothing is made while the module is
 * loaded, because Lambda tells little of what goes wrong there, and kills what takes longer than 10 s.
 * What is not configured is logged by each invocation, which fails with the names of the variables; the
 * next one reads the environment again.
 *
 * A Lambda is frozen between calls and may wake up with sockets that died in its sleep: each client
 * notices within seconds and dials again.
 */
export function lambda<Name extends keyof Deps, Event, Result>(
  make: (deps: Pick<Deps, NoInfer<Name> | "now" | "logger" | "tracing">) => Handler<Event, Result>,
  providers: readonly Provider<Name>[],
  env: Environment = process.env,
): Handler<Event, Result> {
  let handler: Handler<Event, Result> | undefined;
  return async (event, context) => {
    try {
      if (handler === undefined) {
        const tracing = await openFunctionTracing(env);
        handler = make(provide(providers, environmentWithLinks(env), tracing));
      }
    } catch (error) {
      logUnconfigured(error, context);
      throw error;
    }
    return handler(event, context);
  };
}

/** Tracing of functions, whose resource is named by Lambda's own variables. */
export function openFunctionTracing(env: Environment): Promise<Tracing | undefined> {
  return openTracing(env, {
    service: "axon-functions",
    attributes: {
      "faas.name": env["AWS_LAMBDA_FUNCTION_NAME"],
      "faas.version": env["AWS_LAMBDA_FUNCTION_VERSION"],
      "faas.instance": env["AWS_LAMBDA_LOG_STREAM_NAME"],
      "cloud.region": env["AWS_REGION"],
    },
    note: (message, details) =>
      new Logger({ serviceName: "axon-functions" }).warn(message, details),
  });
}

function logUnconfigured(error: unknown, { awsRequestId, functionName }: Context): void {
  const message = error instanceof ConfigurationError ? error.message : "It cannot be set up.";
  const keys = { invocationId: awsRequestId, functionName };
  new Logger({ serviceName: "axon-functions" }).critical(message, keys);
}
