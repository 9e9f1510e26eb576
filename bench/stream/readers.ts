import { WebSocket } from "ws";
import type { ServerFrame } from "../../events/frames.ts";
import { socketProtocol } from "../../events/socket-protocol.ts";
import { runPart } from "./part-process.ts";
import { nowUs, stampsIn } from "./stamp.ts";

/** Who reads: connections to a door, the first of them one turn each. */
export interface ReadersOrder {
  url: string;
  connections: number;
  turnIds: string[];
  /** How a peer speaks; left out, as Axon does. */
  dialect?: "socket.io";
}

/** What a run of readers has seen. */
export interface Seen {
  /** Of every token after the first of its turn: how long it was under way, µs. */
  tokenUs: number[];
  /** Of every first token. */
  firstUs: number[];
  tokens: number;
  frames: number;
  /** Tokens that did not come right after the one before. */
  gaps: number;
  /** Turns that have ended. */
  ended: number;
  /** The longest silence of each turn, ms. */
  silenceMs: number[];
}

/** How a dialect opens, asks for a turn, and what it makes of a message. */
interface Dialect {
  open(url: string): WebSocket;
  onOpen(socket: WebSocket): void;
  ask(socket: WebSocket, turnId: string): void;
  read(
    text: string,
    socket: WebSocket,
  ): { from: number; to: number; text: string } | "end" | undefined;
}

const axon: Dialect = {
  open: (url) => new WebSocket(url, [socketProtocol, "axon.auth.eA"]),
  onOpen: () => {},
  ask: (socket, turnId) => socket.send(JSON.stringify({ action: "resume", turnId, after: 0 })),
  read(text) {
    const frame = JSON.parse(text) as ServerFrame;
    return frame.type === "tokens" ? frame : frame.type === "done" ? "end" : undefined;
  },
};

/** Engine.IO 4 and Socket.IO 5 by hand, lighter than their own client: the peer is not held back by it. */
const socketIo: Dialect = {
  open: (url) => new WebSocket(`${url}/socket.io/?EIO=4&transport=websocket`),
  onOpen: (socket) => socket.send("40"),
  ask: (socket, turnId) => socket.send(`42${JSON.stringify(["watch", turnId])}`),
  read(text, socket) {
    if (text === "2") socket.send("3");
    if (!text.startsWith("42")) return undefined;
    const [event, frame] = JSON.parse(text.slice(2)) as [
      string,
      { from: number; to: number; text: string },
    ];
    return event === "end" ? "end" : frame;
  },
};

runPart<ReadersOrder, "watch" | "seen">(async ({ url, connections, turnIds, dialect }) => {
  const { open, onOpen, ask, read } = dialect === "socket.io" ? socketIo : axon;
  let seen: Seen = empty();
  const sockets: WebSocket[] = [];
  function empty(): Seen {
    return { tokenUs: [], firstUs: [], tokens: 0, frames: 0, gaps: 0, ended: 0, silenceMs: [] };
  }

  function follow(socket: WebSocket): void {
    let last = 0;
    let heardAt = 0;
    let silence = 0;
    socket.on("message", (data) => {
      const message = read(String(data), socket);
      if (message === undefined) return;
      if (message === "end") {
        seen.ended++;
        seen.silenceMs.push(silence);
        return;
      }
      const now = nowUs();
      if (heardAt > 0) silence = Math.max(silence, (now - heardAt) / 1_000);
      heardAt = now;
      if (message.from !== last + 1) seen.gaps++;
      seen.frames++;
      for (const stamp of stampsIn(message.text)) {
        (last++ === 0 ? seen.firstUs : seen.tokenUs).push(now - stamp);
        seen.tokens++;
      }
      last = message.to;
    });
  }

  const opening = Array.from({ length: connections }, (_, i) => async () => {
    const socket = open(url);
    sockets[i] = socket;
    await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
    onOpen(socket);
  });
  // Not all at once: it is not the handshake that is measured.
  for (let i = 0; i < opening.length; i += 50) {
    await Promise.all(opening.slice(i, i + 50).map((start) => start()));
  }
  return {
    ready: {},
    onMessage(what) {
      if (what === "watch") {
        turnIds.forEach((turnId, i) => {
          const socket = sockets[i];
          if (socket === undefined) return;
          follow(socket);
          ask(socket, turnId);
        });
        return true;
      }
      const result = seen;
      seen = { ...empty(), ended: result.ended };
      return result;
    },
  };
});
