import { createHash, createHmac } from "node:crypto";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { classify } from "../../dataplane/errors.ts";
import { callbackApi } from "../../dataplane/relay/callback-api.ts";

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
const hmac = (key: string | Buffer, text: string) =>
  createHmac("sha256", key).update(text).digest();

/** The signature that a request must have, worked out anew. AWS Signature Version 4. */
function expectedSignature({ method, url = "", headers }: IncomingMessage, body: string): string {
  const { authorization = "" } = headers;
  const [, scope = "", signedHeaders = ""] =
    /Credential=[^/]+\/([^,]+), SignedHeaders=([^,]+)/.exec(authorization) ?? [];
  const path = url.split("/").map(encodeURIComponent).join("/");
  const lines = signedHeaders.split(";").map((name) => `${name}:${String(headers[name])}\n`);
  const canonical = [method, path, "", lines.join(""), signedHeaders, sha256(body)].join("\n");
  const date = String(headers["x-amz-date"]);
  const toSign = ["AWS4-HMAC-SHA256", date, scope, sha256(canonical)].join("\n");
  const key = scope
    .split("/")
    .reduce<Buffer | string>((last, part) => hmac(last, part), "AWS4secret");
  return hmac(key, toSign).toString("hex");
}

let server: Server;
let requests: { url: string; body: string; isSigned: boolean }[];
let answers: { status: number; type?: string }[];

beforeEach(async () => {
  vi.stubEnv("AWS_ACCESS_KEY_ID", "key");
  vi.stubEnv("AWS_SECRET_ACCESS_KEY", "secret");
  vi.stubEnv("AWS_SESSION_TOKEN", "");
  requests = [];
  answers = [];
  server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += String(chunk);
    const isSigned = String(request.headers.authorization).endsWith(
      `Signature=${expectedSignature(request, body)}`,
    );
    requests.push({ url: request.url ?? "", body, isSigned });
    const { status, type } = answers.shift() ?? { status: 200 };
    response.writeHead(status, type === undefined ? {} : { "x-amzn-errortype": type }).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
afterEach(() => {
  vi.unstubAllEnvs();
  server.closeAllConnections();
  server.close();
});

const api = (path = "") => {
  const { port } = server.address() as AddressInfo;
  return callbackApi(`http://127.0.0.1:${port}${path}`, "eu-west-1");
};

test("a message arrives under the connection's name, signed", async () => {
  await api("/prod").post("a+b/c=", '{"text":"héllo"}');
  expect(requests).toEqual([
    { url: "/prod/@connections/a%2Bb%2Fc%3D", body: '{"text":"héllo"}', isSigned: true },
  ]);
});

describe("a refusal", () => {
  test.each([
    [410, "GoneException", "gone"],
    [410, undefined, "gone"],
    [429, "LimitExceededException", "throttled"],
    [500, undefined, "retryable"],
    [403, "ForbiddenException", "fatal"],
    [413, "PayloadTooLargeException", "fatal"],
  ] as const)("with %i %s is %s", async (status, type, failure) => {
    answers.push({ status, ...(type !== undefined && { type }) });
    const error = await api()
      .post("c", "{}")
      .catch((reason: unknown) => reason);
    expect(classify(error)).toBe(failure);
  });
});

test("a gateway that is away is worth another try", async () => {
  const client = api();
  await new Promise((resolve) => server.close(resolve));
  const error = await client.post("c", "{}").catch((reason: unknown) => reason);
  expect(classify(error)).toBe("retryable");
});
