import { createServer, type Server } from "node:net";
import { EngineError } from "../engine-error.ts";
import type { Collective } from "./collective.ts";
import { bytesOf, FrameSocket } from "./frame-socket.ts";
import { admitRank, type GroupIdentity } from "./handshake.ts";

/** Rank 0's side of a group over TCP: each other rank has one connection to it. */
export class TcpHub implements Collective {
  readonly rank = 0;
  readonly size: number;
  /** Ranks 1 and up, in this order: the order in which sums are added. */
  readonly #peers: readonly FrameSocket[];
  #sequence = 0;
  #error: EngineError | undefined;

  /** `onLost` is called once when a rank is lost, whether or not an operation waits for it. */
  constructor(peers: readonly FrameSocket[], onLost: (error: EngineError) => void) {
    this.#peers = peers;
    this.size = peers.length + 1;
    for (const peer of peers) {
      peer.onLost((error) => {
        if (this.#error !== undefined) return;
        this.#error = error;
        for (const other of peers) other.close(error);
        onLost(error);
      });
    }
  }

  async allReduce(values: Float32Array): Promise<void> {
    this.#sequence += 1;
    for (const peer of this.#peers) {
      const frame = await peer.receiveFor("partial", this.#sequence, values.byteLength);
      const partial = new Float32Array(frame.buffer, 0, values.length);
      for (let i = 0; i < values.length; i += 1) {
        values[i] = (values[i] as number) + (partial[i] as number);
      }
      peer.recycle(frame);
    }
    for (const peer of this.#peers) peer.send("sum", this.#sequence, bytesOf(values));
  }

  async gather(slice: Float32Array): Promise<Float32Array> {
    this.#sequence += 1;
    const whole = new Float32Array(this.size * slice.length);
    whole.set(slice);
    for (const [index, peer] of this.#peers.entries()) {
      const frame = await peer.receiveFor("slice", this.#sequence, slice.byteLength);
      whole.set(new Float32Array(frame.buffer, 0, slice.length), (index + 1) * slice.length);
      peer.recycle(frame);
    }
    return whole;
  }

  async broadcast(message = new Int32Array()): Promise<Int32Array> {
    if (this.#error !== undefined) throw this.#error;
    this.#sequence += 1;
    for (const peer of this.#peers) peer.send("broadcast", this.#sequence, bytesOf(message));
    return message;
  }

  close(): void {
    this.#error ??= new EngineError("closed", "The group was closed.");
    for (const peer of this.#peers) {
      peer.send("goodbye", 0);
      peer.close(this.#error);
    }
  }
}

export interface GroupEntrance {
  port: number;
  /** The other ranks' connections in the order of ranks, when all are in. */
  complete: Promise<FrameSocket[]>;
  close(): void;
}

/**
 * Listens for the other ranks of a group. One that is refused does not disturb the others: its
 * place stays open. `onRefused` hears of it.
 */
export async function listenForRanks(
  identity: GroupIdentity,
  address: { host: string; port: number },
  onRefused: (error: EngineError) => void = () => {},
): Promise<GroupEntrance> {
  const members = new Map<number, FrameSocket>();
  const complete = Promise.withResolvers<FrameSocket[]>();
  const server = createServer((connection) => {
    const peer = `the rank at ${connection.remoteAddress}:${connection.remotePort}`;
    const socket = new FrameSocket(connection, { peer, lostCode: "rank_lost" });
    admitRank(socket, identity, (rank) => members.has(rank)).then((rank) => {
      socket.peer = `rank ${rank}`;
      socket.watch();
      members.set(rank, socket);
      // Until the group is complete a member may leave, and come again.
      socket.onLost(() => members.delete(rank));
      if (members.size === identity.ranks - 1) {
        server.close();
        const ordered = [...members].sort(([a], [b]) => a - b).map(([, member]) => member);
        complete.resolve(ordered);
      }
    }, onRefused);
  });
  server.maxConnections = identity.ranks + 8;
  const port = await listen(server, address);
  const close = () => {
    server.close();
    const error = new EngineError("closed", "The group was closed.");
    for (const socket of members.values()) socket.close(error);
    complete.reject(error);
  };
  return { port, complete: complete.promise, close };
}

function listen(server: Server, address: { host: string; port: number }): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(address.port, address.host, () => {
      const bound = server.address();
      resolve(typeof bound === "object" && bound !== null ? bound.port : address.port);
    });
  });
}
