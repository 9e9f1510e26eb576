import type {
  APIGatewayProxyEventV2,
  APIGatewayProxyStructuredResultV2,
  Context,
} from "aws-lambda";
import { type AxonError, errorCodes } from "../../events/errors.ts";
import type { Scope } from "../../events/scopes.ts";
import { type Identity, requireScope, unauthenticated } from "./authenticate.ts";
import type { Deps } from "./deps.ts";
import type { RequestLog } from "./request-log.ts";
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

/** The handler of HTTP requests with a Bearer credential that has the scope. What `handle` returns is sent as JSON. */
export function httpHandler(
  deps: Pick<Deps, "authenticate" | "logger">,
  scope: Scope,
  handle: (request: HttpRequest) => Promise<unknown>,
): HttpHandler {
  return stack(
    deps,
    {
      keysOf: ({ requestContext: { http } }) => ({ route: `${http.method} ${http.path}` }),
      refuse: (error) => refusal(error),
    },
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

function bearerOf({ headers }: APIGatewayProxyEventV2): string {
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
