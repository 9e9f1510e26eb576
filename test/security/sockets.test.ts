import { once } from "node:events";
import { connect } from "node:net";
import { Logger } from "@aws-lambda-powertools/logger";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { FrontDoor } from "../../dataplane/relay/front-door.ts";
import type { SocketEvent } from "../../dataplane/relay/sockets.ts";
import { startGateway } from "../../local/gateway.ts";
import { startLambdaApi } from "../../local/lambda-api.ts";
import { freePort } from "../../local/part.ts";
import { cases } from "./arbitraries.ts";

/**
 * Bytes that are no HTTP and no WebSocket, and frames that are no text, at each port that listens. Each has
 * to go on serving: what is not caught would end these tests, as it would end the process.
 */

const logger = new Logger({ serviceName: "test", logLevel: "SILENT" });
const ports: Record<string, number> = {};
const stops: (() => Promise<unknown>)[] = [];
/** What the functions behind the doors were asked. */
const events: SocketEvent[] = [];

const invoke = async (event: SocketEvent) => {
  events.push(event);
  return { statusCode: 200, headers: { "Sec-WebSocket-Protocol": "axon.v1" } };
};

beforeAll(async () => {
  const names = ["$connect", "$disconnect", "$default", "chat"];
  const gateway = await startGateway({
    ...{ host: "127.0.0.1", port: 0, pageDir: import.meta.dirname },
    pageConfig: { webSocketUrl: "/", credential: "key" },
    http: async () => ({ statusCode: 200, body: "{}" }),
    routes: { $connect: invoke, $disconnect: invoke, $default: invoke, chat: invoke },
  });
  ports["gateway"] = Number(new URL(gateway.url).port);
  stops.push(() => gateway.stop());

  const functions = {
    has: (name: string) => names.includes(name),
    invoke: (_: string, event: SocketEvent) => invoke(event),
  };
  const door = new FrontDoor({ relayId: `relay_${"0".repeat(16)}`, functions, logger });
  await door.listen({ host: "127.0.0.1", port: 0 });
  door.open(() => {});
  ports["relay"] = Number(new URL(door.url ?? "").port);
  stops.push(() => door.drain(100));

  const port = (await freePort()) ?? 0;
  const api = await startLambdaApi(
    { ops: async () => ({ ok: true }) },
    { port, accessKeyId: "local", timeoutMs: 5_000 },
  );
  ports["functions"] = port;
  stops.push(() => api.stop());
});
afterAll(() => Promise.all(stops.map((stop) => stop())));

/** Sends bytes. @returns the beginning of what comes back; "" where nothing does. */
async function exchange(port: number, bytes: Buffer, patienceMs = 100): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  let answer = "";
  socket.on("error", () => undefined);
  socket.on("data", (data) => {
    answer += data.toString("latin1");
    socket.destroy();
  });
  // Who ends it at once is not answered by Node.
  socket.write(bytes);
  const timer = setTimeout(() => socket.destroy(), patienceMs);
  await once(socket, "close");
  clearTimeout(timer);
  return answer;
}

const signed = "AWS4-HMAC-SHA256 Credential=local/20260131/us-east-1/lambda/aws4_request";
const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

const target = fc.oneof(
  fc.webPath(),
  fc.string({ maxLength: 30 }).map((text) => `/${text}`),
  fc.constantFrom(
    "/",
    "*",
    "//",
    "http://[",
    "/%",
    "/%ZZ",
    "/%c0%ae%c0%ae/",
    "/..%2f..%2fetc/passwd",
  ),
  fc.constantFrom("/@connections/%", "/2015-03-31/functions/%ZZ/invocations", "/assets/%E0%A4%A"),
  fc.constantFrom("/api/turns/%/events", "/config.json?%", `/${"a".repeat(20_000)}`),
);
const header = fc.oneof(
  fc.constantFrom(`Authorization: ${signed}`, upgrade, `${upgrade}\r\n${key}`, "Host: x y"),
  fc.constantFrom(
    "Content-Length: -1",
    "Transfer-Encoding: x",
    "Expect: y",
    `X: ${"a".repeat(20_000)}`,
  ),
  fc.constantFrom(
    "Sec-WebSocket-Protocol: ,,",
    'Sec-WebSocket-Extensions: permessage-deflate; x="',
    "Origin: null",
  ),
);
const request = fc
  .tuple(
    fc.constantFrom("GET", "POST", "DELETE", "PUT", "G\u0000T"),
    target,
    fc.array(header, { maxLength: 3 }),
  )
  .map(([method, path, headers]) =>
    Buffer.from(
      [`${method} ${path} HTTP/1.1`, "Host: 127.0.0.1", ...headers, "", "body"].join("\r\n"),
      "latin1",
    ),
  );
const bytes = fc.oneof(
  { weight: 4, arbitrary: request },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array)) },
);

describe.each(["gateway", "relay", "functions"])("%s", (name) => {
  const port = () => ports[name] ?? 0;

  test("answers requests after bytes that are none", async () => {
    let answered = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(bytes, { minLength: 10, maxLength: 10 }), async (all) => {
        const answers = await Promise.all(all.map((one) => exchange(port(), one)));
        answered += answers.filter((answer) => answer.startsWith("HTTP/1.1 ")).length;
        for (const answer of answers) expect(answer).not.toMatch(/^HTTP\/1\.1 5|root:|\n +at /);
      }),
      cases(15),
    );
    expect(answered).toBeGreaterThan(50);
    const health = Buffer.from("GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    expect(await exchange(port(), health, 5_000)).toMatch(/^HTTP\/1\.1 [234]\d\d /);
  });
});

describe.each(["gateway", "relay"])("a WebSocket at the %s", (name) => {
  const open = async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${ports[name]}/`, ["axon.v1"]);
    socket.on("error", () => undefined);
    await once(socket, "open");
    return socket;
  };

  test("ends with frames that break its rules, and others go on", async () => {
    const staying = await open();
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 2, maxLength: 60 }), async (array) => {
        const socket = await open();
        const raw = (socket as unknown as { _socket: { write(data: Buffer): void } })._socket;
        raw.write(Buffer.from(array));
        socket.terminate();
      }),
      cases(30),
    );
    // A text frame, masked by nothing, that is no UTF-8.
    const wrong = await open();
    const raw = (wrong as unknown as { _socket: { write(data: Buffer): void } })._socket;
    raw.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe]));
    const [code] = await once(wrong, "close");
    expect(code).toBe(1007);
    const long = await open();
    long.send("x".repeat(40 * 1024));
    expect((await once(long, "close"))[0]).toBe(1009);
    const before = events.length;
    staying.send(JSON.stringify({ action: "chat" }));
    await expect
      .poll(() => events.slice(before).some(({ body }) => body?.includes("chat")))
      .toBe(true);
    staying.terminate();
  });

  test("has no way to the functions of opening and closing by a frame", async () => {
    const socket = await open();
    for (const action of [
      "$connect",
      "$disconnect",
      "constructor",
      "__proto__",
      ["chat"],
      { a: 1 },
    ]) {
      const before = events.length;
      socket.send(JSON.stringify({ action }));
      await expect.poll(() => events.length).toBeGreaterThan(before);
      expect(events[before]?.requestContext).toMatchObject({
        eventType: "MESSAGE",
        routeKey: "$default",
      });
    }
    socket.terminate();
  });
});
