import { appendFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import type { SendResult } from "./span-queue.ts";

/**
 * The statuses of OTLP/HTTP after which a request is sent again; after others it never succeeds.
 * Source: https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes
 */
const passingStatuses = new Set([429, 502, 503, 504]);

/**
 * A collector that speaks OTLP over HTTP. By `node:http` and not `fetch`, which a process loads with its first
 * call: a Lambda function that wakes up for one request has no time for that.
 */
export function collector(url: string, headers: Record<string, string>, timeoutMs: number) {
  const { request, Agent } = url.startsWith("https:") ? https : http;
  const agent = new Agent({ keepAlive: true });
  return (traces: string): Promise<SendResult> =>
    new Promise((resolve) => {
      const call = request(url, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          "content-length": Buffer.byteLength(traces),
          ...headers,
        },
        agent,
        signal: AbortSignal.timeout(timeoutMs),
      });
      call.on("response", (response) => {
        const { statusCode = 0 } = response;
        // Read to its end, so that the connection can be used again.
        response.resume().on("error", () => resolve("away"));
        response.on("end", () => {
          if (statusCode >= 200 && statusCode < 300) resolve("sent");
          else resolve(passingStatuses.has(statusCode) ? "away" : "refused");
        });
      });
      call.on("error", () => resolve("away"));
      call.end(traces);
    });
}

/** A file that several processes may append to, a batch a line: what collectors read as OTLP JSON files. */
export function traceFile(path: string) {
  return async (traces: string): Promise<SendResult> => {
    try {
      await appendFile(path, `${traces}\n`);
      return "sent";
    } catch {
      return "away";
    }
  };
}
