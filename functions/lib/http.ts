import type {
  APIGatewayProxyEventV2,
  APIGatewayProxyStructuredResultV2,
  Context,
} from "aws-lambda";
import { type AxonError, errorCodes } from "../../events/errors.ts";
import type { Scope } from "../../events/scopes.ts";
import { parseTraceparent } from "../../events/tracing/trace-context.ts";
import type { SpanStart } from "../../events/tracing/tracing.ts";
import { type Identity, unauthenticated } from "./credentials/authenticate.ts";
import { requireScope } from "./credentials/scopes.ts";
import type { Deps } from "./deps.ts";
import type { LogKeys, RequestLog } from "./request-log.ts";
import { stack } from "./stack.ts";

export interface HttpRequest {
  method: string;
  path: string;
  query: Record<string, string | undefined>;
  identity: Identity;
  log: RequestLog;
}

export type HttpHandler = (
  event: APIGatewayProxyEventV2,
  context: Context,
) => Promise<APIGatewayProxyStructuredResultV2>;

/** A path as logs and traces say it: with anything but names in it it may be somebody's text. */
const loggedPath = (path: string): string =>
  /^[\w/.-]{1,200}$/.test(path) ? path : "(another path)";

/** What log lines and the trace say of an HTTP request. */
export const httpTrigger = {
  keysOf: ({ requestContext: { http } }: APIGatewayProxyEventV2): LogKeys => ({
    route: `${http.method} ${loggedPath(http.path)}`,
  }),
  spanOf: ({
    headers,
    requestContext: { http },
  }: APIGatewayProxyEventV2): SpanStart & { name: string } => ({
    name: http.method,
    kind: "server",
    parent: parseTraceparent(headers["traceparent"]),
    isBorder: true,
    attributes: {
      "faas.trigger": "http",
      "http.request.method": http.method,
      "url.path": loggedPath(http.path),
    },
  }),
};

/** The handler of HTTP requests with a Bearer credential that has the scope. What `handle` returns is sent as JSON. */
export function httpHandler(
  deps: Pick<Deps, "authenticate" | "logger" | "tracing" | "metrics">,
  scope: Scope,
  handle: (request: HttpRequest) => Promise<unknown>,
): HttpHandler {
  return stack(
    deps,
    { ...httpTrigger, refuse: (error) => refusal(error) },
    async (event, { log }) => {
      const identity = await deps.authenticate(bearerOf(event));
      log.add({ tenantId: identity.tenantId });
      requireScope(identity, scope);
      const { rawPath: path, queryStringParameters: query = {} } = event;
      const body = await handle({
        method: event.requestContext.http.method,
        path,
        query,
        identity,
        log,
      });
      return response(200, body);
    },
  );
}

/** @throws AxonError unauthenticated */
export function bearerOf({ headers }: APIGatewayProxyEventV2): string {
  // API Gateway writes header names in lower case in this version of the event.
  const credential = /^Bearer +(\S+)$/i.exec(headers["authorization"] ?? "")?.[1];
  if (credential === undefined) throw unauthenticated();
  return credential;
}

function refusal(error: AxonError): APIGatewayProxyStructuredResultV2 {
  const { code, message, field, retryAfterMs } = error;
  const { retryable, httpStatus } = errorCodes[code];
  return response(httpStatus, { type: "error", code, message, retryable, field, retryAfterMs });
}

function response(statusCode: number, body: unknown): APIGatewayProxyStructuredResultV2 {
  return {
    statusCode,
    headers: { "content-type": "application/json; charset=utf-8", "cache-control": "no-store" },
    body: JSON.stringify(body),
  };
}
