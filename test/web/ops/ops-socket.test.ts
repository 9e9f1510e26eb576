import { afterEach, expect, test } from "vitest";
import type { ErrorFrame } from "../../../events/frames.ts";
import { mayObserve } from "../../../web/ops/may-observe.ts";
import { type OpsSocket, openOpsSocket } from "../../../web/ops/ops-socket.ts";
import { type ScriptedConnection, scriptedServer } from "../../client/scripted-server.ts";
import { eventually } from "../../support/eventually.ts";

interface Asked {
  action: string;
  requestId: string;
  view?: string;
}
type Server = Awaited<ReturnType<typeof scriptedServer>>;
type Script = (asked: Asked, connection: ScriptedConnection) => void;

const opened: { close(): void }[] = [];
const servers: Server[] = [];
afterEach(async () => {
  for (const socket of opened.splice(0)) socket.close();
  for (const server of servers.splice(0)) await server.stop();
});

async function serve(script: Script): Promise<Server> {
  const server = await scriptedServer((frame, connection) =>
    script(frame as unknown as Asked, connection),
  );
  servers.push(server);
  return server;
}

async function start(script: Script, options: { answerMs?: number } = {}) {
  const server = await serve(script);
  const socket: OpsSocket = openOpsSocket({ url: server.url, credential: "key", ...options });
  opened.push(socket);
  return { server, socket };
}

const answer = ({ requestId }: Asked, connection: ScriptedConnection, n = 1) =>
  connection.send({
    ...{ type: "observed", requestId, view: "groups", at: 1 },
    data: { groups: [], n } as { groups: [] },
  });

const refusal = (requestId: string, code: ErrorFrame["code"], retryable = false): ErrorFrame => ({
  ...{ type: "error", requestId, code, message: `It is ${code}.`, retryable },
});

test("each question has its own answer, in whatever order they come", async () => {
  const waiting: Asked[] = [];
  const { server, socket } = await start((asked, connection) => {
    waiting.push(asked);
    if (waiting.length < 2) return;
    for (const each of waiting.reverse()) answer(each, connection, each.view === "groups" ? 1 : 2);
  });
  const both = [socket.observe("groups", {}), socket.observe("queues", {})];
  expect((await Promise.all(both)).map(({ data }) => (data as { n: number }).n)).toEqual([1, 2]);
  expect(server.protocols).toEqual(["axon.v1, axon.auth.a2V5"]);
});

test("a question that is lost with its connection is asked again on the next one", async () => {
  const { server, socket } = await start((asked, connection) => {
    if (connection.index === 0) connection.drop();
    else answer(asked, connection);
  });
  const states: string[] = [];
  socket.onState(() => states.push(socket.state));
  expect(await socket.observe("groups", {})).toMatchObject({ at: 1 });
  expect(server.connections()).toBe(2);
  expect(states).toEqual(["open", "reconnecting", "open"]);
});

test("an order that is lost with its connection is not given twice", async () => {
  const { server, socket } = await start((_asked, connection) => connection.drop());
  await expect(socket.operate({ command: "pause" })).rejects.toMatchObject({
    code: "connection_lost",
    message: expect.stringMatching(/Look whether it was done/),
  });
  await eventually(() => server.connections() === 2);
  expect(server.received).toHaveLength(1);
});

test("a connection that does not answer is taken for dead", async () => {
  const { server, socket } = await start(() => {}, { answerMs: 60 });
  const asked = socket.observe("groups", {});
  await expect(asked).rejects.toMatchObject({ code: "timeout", retryable: true });
  await eventually(() => server.connections() === 2);
});

test("a refusal is for what it names, and growth of the log for whoever listens", async () => {
  const change = { stream: "turn/t", version: 1, position: "0".repeat(26), at: 1, types: ["A"] };
  const { socket } = await start((asked, connection) => {
    if (asked.action === "operate") connection.send(refusal(asked.requestId, "forbidden"));
    else {
      connection.send({ type: "noticed", position: change.position, changes: [change] });
      answer(asked, connection);
    }
  });
  const heard: unknown[] = [];
  const end = socket.onNoticed((changes) => heard.push(...changes));
  const order = socket.operate({ command: "help" });
  const question = socket.observe("groups", {});
  await expect(order).rejects.toMatchObject({ code: "forbidden", retryable: false });
  await question;
  expect(heard).toEqual([change]);
  end();
  await socket.observe("groups", {});
  expect(heard).toHaveLength(1);
});

test("what is still asked when the page is left has no answer", async () => {
  const { socket } = await start(() => {});
  const asked = socket.observe("groups", {});
  socket.close();
  await expect(asked).rejects.toMatchObject({ code: "closed" });
});

test("whether a credential may observe is found out by asking", async () => {
  const config = (url: string) => ({ webSocketUrl: url, apiUrl: "", credential: "key" });
  const may = await serve((asked, connection) => answer(asked, connection));
  expect(await mayObserve(config(may.url))).toBe(true);
  const mayNot = await serve(({ requestId }, connection) =>
    connection.send(refusal(requestId, "forbidden")),
  );
  expect(await mayObserve(config(mayNot.url))).toBe(false);
  const isAway = await serve(({ requestId }, connection) =>
    connection.send(refusal(requestId, "unavailable", true)),
  );
  await expect(mayObserve(config(isAway.url))).rejects.toMatchObject({ code: "unavailable" });
});
