import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  ApiGatewayManagementApiClient,
  DeleteConnectionCommand,
  GetConnectionCommand,
  GoneException,
  PayloadTooLargeException,
  PostToConnectionCommand,
} from "@aws-sdk/client-apigatewaymanagementapi";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { SocketEvent } from "../../dataplane/relay/sockets.ts";
import { type Gateway, type GatewayOptions, startGateway } from "../../local/gateway.ts";
import { StageError } from "../../local/part.ts";
import { eventually } from "../support/eventually.ts";

let pageDir: string;
let events: SocketEvent[];
let gateway: Gateway;
const clients: WebSocket[] = [];

beforeAll(() => {
  pageDir = mkdtempSync(join(tmpdir(), "axon-page-"));
  mkdirSync(join(pageDir, "assets"));
  writeFileSync(join(pageDir, "index.html"), "<h1>page</h1>");
  writeFileSync(join(pageDir, "assets", "app-1a2b.js"), "run()");
  writeFileSync(join(pageDir, "..", "secret.txt"), "secret");
});
afterAll(() => rmSync(pageDir, { recursive: true }));
beforeEach(() => {
  events = [];
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.terminate();
  await gateway.stop();
});

async function start(options: Partial<GatewayOptions> = {}): Promise<void> {
  const record = async (event: SocketEvent) => {
    events.push(event);
    return { statusCode: 200 };
  };
  gateway = await startGateway({
    host: "127.0.0.1",
    port: 0,
    pageDir,
    pageConfig: { webSocketUrl: "/", credential: "key" },
    http: async (event) => ({ statusCode: 200, body: JSON.stringify(event) }),
    ...options,
    routes: {
      $connect: async (event) => {
        events.push(event);
        const offered = event.headers?.["Sec-WebSocket-Protocol"] ?? "";
        if (offered.includes("refuse")) return { statusCode: 401 };
        return offered === ""
          ? { statusCode: 200 }
          : { statusCode: 200, headers: { "Sec-WebSocket-Protocol": "axon.v1" } };
      },
      $disconnect: record,
      $default: record,
      chat: record,
      fail: async () => {
        throw new Error("broken");
      },
      hang: () => new Promise(() => undefined),
      ...options.routes,
    },
  });
}

const address = () => gateway.url.replace("http", "ws");

async function open(protocols: string[] = [], headers = {}): Promise<WebSocket> {
  const client = new WebSocket(address(), protocols, { headers });
  clients.push(client);
  await once(client, "open");
  return client;
}

const nextMessage = async (client: WebSocket) => String((await once(client, "message"))[0]);
const closing = async (client: WebSocket) => Number((await once(client, "close"))[0]);
const seen = (route: string) =>
  eventually(() => events.find(({ requestContext }) => requestContext.routeKey === route));

function callbacks(): ApiGatewayManagementApiClient {
  return new ApiGatewayManagementApiClient({
    endpoint: gateway.url,
    region: "us-east-1",
    credentials: { accessKeyId: "a", secretAccessKey: "b" },
    maxAttempts: 1,
  });
}

test("a connection that the handler denies is refused with its status", async () => {
  await start();
  const client = new WebSocket(address(), ["refuse"]);
  const [, response] = await once(client, "unexpected-response");
  expect(response.statusCode).toBe(401);
  expect(events.map(({ requestContext }) => requestContext.routeKey)).toEqual(["$connect"]);
});

test.each([
  ["fails", async () => Promise.reject(new Error("broken")), 502],
  ["answers nonsense", async () => "yes", 502],
  ["does not answer", () => new Promise(() => undefined), 504],
])("a connection whose handler %s is refused", async (_how, $connect, status) => {
  await start({ routes: { $connect }, limits: { integrationMs: 50 } });
  const [, response] = await once(new WebSocket(address()), "unexpected-response");
  expect(response.statusCode).toBe(status);
});

test("a connection gets the subprotocol that the handler names, and its events its shape", async () => {
  await start();
  const client = await open(["axon.v1", "axon.auth.a2V5"], { "user-agent": "test" });
  expect(client.protocol).toBe("axon.v1");
  const connected = await seen("$connect");
  expect(connected.headers?.["Sec-WebSocket-Protocol"]).toBe("axon.v1,axon.auth.a2V5");
  expect(connected.requestContext).toMatchObject({
    eventType: "CONNECT",
    identity: { sourceIp: "127.0.0.1", userAgent: "test" },
  });
  expect(connected.requestContext).not.toHaveProperty("messageId");
  client.close(1000, "bye");
  const left = await seen("$disconnect");
  expect(left.requestContext).toMatchObject({
    eventType: "DISCONNECT",
    connectionId: connected.requestContext.connectionId,
    disconnectStatusCode: 1000,
    disconnectReason: "bye",
  });
});

test("frames go to the route of their action, everything else to $default", async () => {
  await start();
  const client = await open();
  client.send('{"action":"chat","n":1}');
  const chat = await seen("chat");
  expect(chat).toMatchObject({ body: '{"action":"chat","n":1}', isBase64Encoded: false });
  expect(chat.requestContext.eventType).toBe("MESSAGE");
  expect(chat.requestContext.messageId).toMatch(/=$/);
  const strays = [
    "no json",
    "[]",
    '{"action":"$connect"}',
    '{"action":"toString"}',
    '{"action":7}',
  ];
  for (const stray of strays) client.send(stray);
  client.send(Buffer.from([1, 2, 3]));
  await eventually(() => events.length === 2 + strays.length + 1);
  const rest = events.slice(2);
  expect(new Set(rest.map(({ requestContext }) => requestContext.routeKey))).toEqual(
    new Set(["$default"]),
  );
  expect(rest.at(-1)).toMatchObject({ body: "AQID", isBase64Encoded: true });
});

test("a handler that fails or hangs is answered by the gateway, and the connection lives", async () => {
  await start({ limits: { integrationMs: 50 } });
  const client = await open();
  client.send('{"action":"fail"}');
  const id = (await seen("$connect")).requestContext.connectionId;
  expect(JSON.parse(await nextMessage(client))).toEqual({
    message: "Internal server error",
    connectionId: id,
    requestId: expect.any(String),
  });
  client.send('{"action":"hang"}');
  expect(JSON.parse(await nextMessage(client))).toMatchObject({
    message: "Endpoint request timed out",
  });
  client.send('{"action":"chat"}');
  await seen("chat");
});

test("a frame of 32 KB passes, a longer one closes the connection unhandled", async () => {
  await start();
  const client = await open();
  client.send("x".repeat(32 * 1024));
  await seen("$default");
  client.send("y".repeat(32 * 1024 + 1));
  expect(await closing(client)).toBe(1009);
  await seen("$disconnect");
  expect(events.filter(({ body }) => body?.startsWith("y"))).toEqual([]);
});

test("a message of several frames may have 128 KB, and no more", async () => {
  await start();
  const send = (client: WebSocket, frames: number) => {
    const part = "z".repeat(32 * 1024);
    for (let i = 1; i <= frames; i++) client.send(part, { fin: i === frames });
  };
  const client = await open();
  send(client, 4);
  expect((await seen("$default")).body).toHaveLength(128 * 1024);
  send(client, 5);
  expect(await closing(client)).toBe(1009);
});

test("an idle connection is closed; traffic keeps it open", async () => {
  await start({ limits: { idleMs: 300 } });
  const client = await open();
  const openedAt = Date.now();
  const chatter = setInterval(() => client.send("{}"), 50);
  const closed = closing(client);
  await eventually(() => Date.now() - openedAt > 600);
  expect(client.readyState).toBe(WebSocket.OPEN);
  clearInterval(chatter);
  expect(await closed).toBe(1001);
});

test("a connection has an age after which it is closed", async () => {
  await start({ limits: { connectionMs: 100 } });
  expect(await closing(await open())).toBe(1001);
});

test("the SDK posts to a connection, describes it and deletes it", async () => {
  await start();
  const client = await open();
  const ConnectionId = (await seen("$connect")).requestContext.connectionId;
  const sdk = callbacks();
  const message = nextMessage(client);
  await sdk.send(new PostToConnectionCommand({ ConnectionId, Data: "hällo" }));
  expect(await message).toBe("hällo");
  const found = await sdk.send(new GetConnectionCommand({ ConnectionId }));
  expect(found.ConnectedAt?.getTime()).toBeLessThanOrEqual(Date.now());
  expect(found.Identity?.SourceIp).toBe("127.0.0.1");
  const closed = closing(client);
  await sdk.send(new DeleteConnectionCommand({ ConnectionId }));
  expect(await closed).toBe(1000);
});

test("the SDK learns that a connection is gone, and that a message is too long", async () => {
  await start();
  const sdk = callbacks();
  const gone = new PostToConnectionCommand({ ConnectionId: "nobody=", Data: "x" });
  await expect(sdk.send(gone)).rejects.toBeInstanceOf(GoneException);
  await open();
  const ConnectionId = (await seen("$connect")).requestContext.connectionId;
  const long = new PostToConnectionCommand({ ConnectionId, Data: "x".repeat(128 * 1024 + 1) });
  await expect(sdk.send(long)).rejects.toBeInstanceOf(PayloadTooLargeException);
});

test("the callback API wants a signature", async () => {
  await start();
  const response = await fetch(`${gateway.url}/@connections/x`, { method: "POST", body: "x" });
  expect(response.status).toBe(403);
});

test("a consumer that reads nothing is dropped before it fills the memory", async () => {
  await start();
  const socket = connect(gateway.port, "127.0.0.1");
  socket.write(
    `GET / HTTP/1.1\r\nHost: localhost:${gateway.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
  );
  await once(socket, "readable");
  const ConnectionId = (await seen("$connect")).requestContext.connectionId;
  const sdk = callbacks();
  const Data = "x".repeat(120 * 1024);
  const outcomes = new Set<string>();
  await eventually(async () => {
    // A post waits for the consumer, so nobody waits for the post.
    void sdk.send(new PostToConnectionCommand({ ConnectionId, Data })).then(
      () => outcomes.add("sent"),
      (error: Error) => outcomes.add(error.name),
    );
    return outcomes.has("GoneException");
  });
  await seen("$disconnect");
  socket.destroy();
});

test("HTTP requests become API Gateway's events", async () => {
  await start();
  const response = await fetch(`${gateway.url}/api/conversations?limit=2&tag=a&tag=b`, {
    headers: { Authorization: "Bearer key" },
  });
  expect(await response.json()).toMatchObject({
    version: "2.0",
    rawPath: "/api/conversations",
    rawQueryString: "limit=2&tag=a&tag=b",
    queryStringParameters: { limit: "2", tag: "a,b" },
    headers: { authorization: "Bearer key" },
    requestContext: { http: { method: "GET", path: "/api/conversations" } },
  });
});

test("an HTTP handler that fails is a 500 without details", async () => {
  await start({ http: async () => Promise.reject(new Error("secret")) });
  const response = await fetch(`${gateway.url}/api/x`);
  expect(response.status).toBe(500);
  expect(await response.text()).not.toContain("secret");
});

test("the page is served: its routes, its hashed files, its configuration", async () => {
  await start();
  const get = (path: string) => fetch(gateway.url + path);
  const route = await get("/c/some-conversation");
  expect(await route.text()).toBe("<h1>page</h1>");
  expect(route.headers.get("content-type")).toBe("text/html; charset=utf-8");
  expect(route.headers.get("cache-control")).toBe("no-cache");
  const asset = await get("/assets/app-1a2b.js");
  expect(asset.headers.get("content-type")).toMatch(/^text\/javascript/);
  expect(asset.headers.get("cache-control")).toContain("immutable");
  expect((await get("/assets/missing.js")).status).toBe(404);
  expect(await (await get("/config.json")).json()).toEqual({
    webSocketUrl: "/",
    credential: "key",
  });
});

test("nothing outside of the page's folder is served", async () => {
  await start();
  expect((await get(`/%2e%2e%2fsecret.txt`)).status).toBe(404);
  expect((await get(`/assets/%2e%2e/%2e%2e%2fsecret.txt`)).status).toBe(404);
});

/** `fetch` would tidy the path up and set the Host header itself. */
function get(path: string, headers: Record<string, string> = {}): Promise<{ status: number }> {
  return new Promise((resolve, reject) => {
    request({ host: "127.0.0.1", port: gateway.port, path, headers }, (response) => {
      response.resume();
      resolve({ status: response.statusCode ?? 0 });
    })
      .on("error", reject)
      .end();
  });
}

test("a foreign host name is refused, whatever it points to", async () => {
  await start();
  expect((await get("/config.json", { host: "evil.example" })).status).toBe(421);
  expect((await get("/config.json", { host: `localhost:${gateway.port}` })).status).toBe(200);
  const client = new WebSocket(address(), { headers: { host: "evil.example" } });
  const [, response] = await once(client, "unexpected-response");
  expect(response.statusCode).toBe(421);
});

test("a foreign page may not open a WebSocket; our own may", async () => {
  await start();
  const foreign = new WebSocket(address(), { origin: "https://evil.example" });
  const [, response] = await once(foreign, "unexpected-response");
  expect(response.statusCode).toBe(403);
  expect(events).toEqual([]);
  const own = await open([], { origin: gateway.url });
  expect(own.readyState).toBe(WebSocket.OPEN);
});

test("a gateway that was told to be quiet takes nobody new and keeps who is there", async () => {
  await start();
  const client = await open();
  gateway.quiesce();
  const [, response] = await once(new WebSocket(address()), "unexpected-response");
  expect(response.statusCode).toBe(503);
  client.send('{"action":"chat"}');
  await seen("chat");
});

test("a port in use is an error that says what to do", async () => {
  await start();
  const again = startGateway({
    ...{ host: "127.0.0.1", port: gateway.port, pageDir, pageConfig: {}, routes: {} },
    http: async () => ({}),
  });
  await expect(again).rejects.toThrow(StageError);
  await expect(again).rejects.toMatchObject({
    code: "port_in_use",
    message: expect.stringContaining(`PORT=${gateway.port + 1}`),
  });
});
