import type { APIGatewayProxyEventV2 } from "aws-lambda";
import type { AxonError } from "../../../events/errors.ts";
import type { Span } from "../../../events/tracing/tracing.ts";
import type { Identity } from "../credentials/authenticate.ts";
import { requireScope } from "../credentials/scopes.ts";
import type { Deps } from "../deps.ts";
import { bearerOf, httpTrigger } from "../http.ts";
import type { RequestLog } from "../request-log.ts";
import { stack } from "../stack.ts";
import type { StreamedResponse, StreamingContext, StreamingHandler } from "../streamed-http.ts";
import { type ErrorBody, errorOf } from "./errors.ts";

/** A request of somebody who may chat. */
export interface ApiRequest {
  event: APIGatewayProxyEventV2;
  identity: Identity;
  log: RequestLog;
  span: Span | undefined;
  /** Unix ms: until then the answer has to be told, or left off. */
  until: number;
  gone: AbortSignal | undefined;
}

/** For what comes after the last words: Lambda cuts off what takes longer. */
const reserveMs = 10_000;

/** The handler of requests of OpenAI's API: Bearer credentials, and errors as its clients read them. */
export function apiHandler(
  deps: Pick<Deps, "authenticate" | "logger" | "rate" | "now" | "tracing" | "metrics">,
  handle: (request: ApiRequest) => Promise<StreamedResponse>,
): StreamingHandler {
  return stack<APIGatewayProxyEventV2, StreamedResponse>(
    deps,
    { ...httpTrigger, refuse: (error, event) => refusal(error, event, deps.rate.burst) },
    async (event, context) => {
      const { log, span, clientGone: gone }: typeof context & StreamingContext = context;
      const identity = await deps.authenticate(bearerOf(event));
      log.add({ tenantId: identity.tenantId });
      requireScope(identity, "chat");
      const until = deps.now() + context.getRemainingTimeInMillis() - reserveMs;
      return handle({ event, identity, log, span, until, gone });
    },
  );
}

function refusal(error: AxonError, event: APIGatewayProxyEventV2, limit: number): StreamedResponse {
  const { status, body } = errorOf(error);
  const { retryAfterMs } = error;
  const headers: Record<string, string> = { "x-request-id": event.requestContext.requestId };
  if (retryAfterMs !== undefined) {
    headers["retry-after"] = String(Math.ceil(retryAfterMs / 1_000));
    headers["retry-after-ms"] = String(Math.ceil(retryAfterMs));
  }
  if (error.code === "rate_limited") {
    headers["x-ratelimit-limit-requests"] = String(limit);
    headers["x-ratelimit-remaining-requests"] = "0";
  }
  if (status === 401) headers["www-authenticate"] = "Bearer";
  return jsonResponse(status, body, headers);
}

export function jsonResponse(
  statusCode: number,
  body: object | ErrorBody,
  headers: Record<string, string> = {},
): StreamedResponse {
  return {
    statusCode,
    headers: {
      "content-type": "application/json; charset=utf-8",
      "cache-control": "no-store",
      ...headers,
    },
    body: JSON.stringify(body),
  };
}
