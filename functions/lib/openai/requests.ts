import { randomUUID } from "node:crypto";
import type { APIGatewayProxyEventV2 } from "aws-lambda";
import { AxonError } from "../../../events/errors.ts";
import { type EventId, parseEventId } from "./event-stream.ts";
import { ParameterRefused } from "./parameters.ts";

/** What an HTTP request asks, beside its body. */

const mostKeyCharacters = 255;

/** The asker's name for a request; without a header each request is one of its own. */
export function requestIdOf({ headers }: APIGatewayProxyEventV2): string {
  const key = headers["idempotency-key"];
  if (key === undefined) return randomUUID();
  if (key.length <= mostKeyCharacters) return `Idempotency-Key: ${key}`;
  const problem = `must be at most ${mostKeyCharacters} characters`;
  throw new ParameterRefused("invalid_value", "Idempotency-Key", problem);
}

/** From where an answer is to go on; undefined without the header. */
export function lastEventIdOf({ headers }: APIGatewayProxyEventV2): EventId | undefined {
  const text = headers["last-event-id"];
  return text === undefined || text === "" ? undefined : parseEventId(text);
}

/** @throws AxonError invalid_field where it is no JSON */
export function bodyOf({ body = "", isBase64Encoded }: APIGatewayProxyEventV2): unknown {
  try {
    return JSON.parse(Buffer.from(body, isBase64Encoded ? "base64" : "utf8").toString("utf8"));
  } catch {
    throw new AxonError("invalid_field", "body: must be JSON.", { field: "body" });
  }
}
