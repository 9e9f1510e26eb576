/**
 * Which of other sites' pages may call OpenAI's API: all of them, for a page brings the key that it calls
 * with, and nothing is sent by itself. The function's URL answers a browser's questions about it on AWS,
 * the gateway on the local stage. `*` would not stand for `authorization`.
 * Source: https://fetch.spec.whatwg.org/#cors-non-wildcard-request-header-name
 */
export const apiCors = {
  allowOrigins: ["*"],
  allowMethods: ["GET", "POST"] as ("GET" | "POST")[],
  allowHeaders: [
    ...["authorization", "content-type", "idempotency-key", "last-event-id"],
    // What OpenAI's own client says of itself.
    ...["openai-organization", "openai-project"],
    ...["arch", "helper-method", "lang", "os", "package-version", "poll-helper"].map(ofClient),
    ...["retry-count", "runtime", "runtime-version", "timeout"].map(ofClient),
  ],
  exposeHeaders: [
    ...["x-request-id", "x-axon-conversation", "retry-after", "retry-after-ms"],
    ...["limit", "remaining", "reset"].map((what) => `x-ratelimit-${what}-requests`),
  ],
  maxAgeSeconds: 86_400,
};

function ofClient(what: string): string {
  return `x-stainless-${what}`;
}
