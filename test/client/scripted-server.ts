import type { AddressInfo } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";
import type { ClientFrame, ServerFrame } from "../../events/frames.ts";

/** One connection as the server of a test sees it. */
export interface ScriptedConnection {
  /** From 0, in the order in which they were opened. */
  index: number;
  socket: WebSocket;
  send(frame: ServerFrame): void;
  /** Ends the connection without a word, as a lost network does. */
  drop(): void;
}

/** A server that does what a test tells it: `onFrame` is called for each frame of a client. */
export async function scriptedServer(
  onFrame: (frame: ClientFrame, connection: ScriptedConnection) => void,
  options: { refuse?: boolean } = {},
) {
  const server = new WebSocketServer({
    port: 0,
    host: "127.0.0.1",
    handleProtocols: () => "axon.v1",
    verifyClient: () => options.refuse !== true,
  });
  await new Promise((resolve) => server.once("listening", resolve));
  const received: ClientFrame[] = [];
  const protocols: string[] = [];
  let opened = 0;
  server.on("connection", (socket, request) => {
    protocols.push(request.headers["sec-websocket-protocol"] ?? "");
    const connection: ScriptedConnection = {
      index: opened++,
      socket,
      send: (frame) => socket.send(JSON.stringify(frame)),
      drop: () => socket.terminate(),
    };
    socket.on("message", (data) => {
      const frame = JSON.parse(String(data)) as ClientFrame;
      received.push(frame);
      onFrame(frame, connection);
    });
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `ws://127.0.0.1:${port}/`,
    received,
    protocols,
    connections: () => opened,
    /** Ends every connection without a word. */
    dropAll() {
      for (const socket of server.clients) socket.terminate();
    },
    async stop() {
      for (const socket of server.clients) socket.terminate();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export const accepted = (requestId: string, turnId = `turn-${requestId}`): ServerFrame => ({
  ...{ type: "accepted", requestId, turnId, conversationId: `conv-${requestId}` },
  ...{ model: "m", revision: "m-1" },
});

/** Tokens `from`…`to` of a turn whose token n is the text "n ". */
export const tokens = (
  turnId: string,
  from: number,
  to: number,
  { epoch = 1, text = counting(from, to) } = {},
): ServerFrame => ({ type: "tokens", turnId, from, to, text, epoch });

export const rewind = (turnId: string, to: number): ServerFrame => ({ type: "rewind", turnId, to });

export const done = (turnId: string, lastSeq: number, epoch = lastSeq && 1): ServerFrame => ({
  ...{ type: "done", turnId, lastSeq, epoch, finishReason: "stop" },
  usage: { promptTokens: 1, completionTokens: lastSeq },
  timings: { queuedMs: 0, firstTokenMs: 0, totalMs: 0 },
});

export function counting(from: number, to: number): string {
  return Array.from({ length: to - from + 1 }, (_, i) => `${from + i} `).join("");
}
