import { createHash, createHmac, type Hash, type Hmac } from "node:crypto";
import { Agent as HttpAgent, type RequestOptions, request as requestHttp } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { defaultProvider } from "@aws-sdk/credential-provider-node";
import { SignatureV4 } from "@smithy/signature-v4";

/** The gateway did not take a message. Named and numbered as the AWS SDK does it. */
class CallbackError extends Error {
  override readonly name: string;
  readonly $metadata: { httpStatusCode: number };

  constructor(name: string, status: number) {
    super(`The gateway answered ${status}.`);
    this.name = name;
    this.$metadata = { httpStatusCode: status };
  }
}

class CallbackTimeout extends Error {
  override readonly name = "TimeoutError";
}

const timeoutMs = 5_000;
/** Calls under way at the same time; one a connection at most is not limit enough. */
const mostSockets = 256;
const agentOptions = { keepAlive: true, maxSockets: mostSockets };

/**
 * PostToConnection of API Gateway's callback API, the call that a relay makes most: signed by AWS's own
 * signer, sent by Node's own client, at 40 % of the processor time that the client of the AWS SDK takes.
 * Protocol: https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html
 */
export function callbackApi(endpoint: string, region: string) {
  const { protocol, hostname, port, pathname } = new URL(endpoint);
  const isPlain = protocol === "http:";
  const request = isPlain ? requestHttp : requestHttps;
  const agent = isPlain ? new HttpAgent(agentOptions) : new HttpsAgent(agentOptions);
  const host = port === "" ? hostname : `${hostname}:${port}`;
  const signer = new SignatureV4({
    ...{ service: "execute-api", region, credentials: defaultProvider(), sha256: Sha256 },
  });

  return {
    /** @throws CallbackError, or the error of a broken connection. */
    async post(connectionId: string, body: string): Promise<void> {
      const path = `${pathname.replace(/\/$/, "")}/@connections/${encodeURIComponent(connectionId)}`;
      const message = { method: "POST", protocol, hostname, path, query: {}, body };
      const headers = { host, "content-type": "application/json" };
      const signed = await signer.sign({ ...message, headers });
      const options = { agent, hostname, port, path, method: "POST", headers: signed.headers };
      await send(request, { ...options, timeout: timeoutMs }, body);
    },
    close: () => agent.destroy(),
  };
}

function send(request: typeof requestHttp, options: RequestOptions, body: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const sending = request(options, (response) => {
      const { statusCode: status = 0, headers } = response;
      response.resume();
      response.on("error", reject);
      response.on("end", () => {
        if (status >= 200 && status < 300) resolve();
        else reject(new CallbackError(String(headers["x-amzn-errortype"] ?? "Unknown"), status));
      });
    });
    sending.on("timeout", () =>
      sending.destroy(new CallbackTimeout("The gateway did not answer.")),
    );
    sending.on("error", reject);
    sending.end(body);
  });
}

/** SHA-256 as AWS's signer wants it: a hash, or with a secret an HMAC. */
class Sha256 {
  readonly #hash: Hash | Hmac;

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#hash =
      secret === undefined ? createHash("sha256") : createHmac("sha256", bytesOf(secret));
  }

  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(bytesOf(data));
  }

  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }

  /** A hash is used once. */
  reset(): void {}
}

function bytesOf(data: string | ArrayBuffer | ArrayBufferView): string | Uint8Array {
  if (typeof data === "string") return data;
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
