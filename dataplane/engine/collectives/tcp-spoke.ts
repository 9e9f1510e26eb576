import { createConnection, type Socket } from "node:net";
import { EngineError } from "../engine-error.ts";
import type { Collective } from "./collective.ts";
import { bytesOf, FrameSocket } from "./frame-socket.ts";
import { presentRank, type RankIdentity } from "./handshake.ts";

const connectTimeoutMs = 5_000;

/** Another rank's side of a group over TCP: one connection, to the leader. */
export class TcpSpoke implements Collective {
  readonly rank: number;
  readonly size: number;
  readonly #leader: FrameSocket;
  #sequence = 0;

  constructor(leader: FrameSocket, rank: number, size: number) {
    this.#leader = leader;
    this.rank = rank;
    this.size = size;
    leader.watch();
  }

  /** `listener` is called once when the leader is lost, or has closed the group ("closed"). */
  onLost(listener: (error: EngineError) => void): void {
    this.#leader.onLost(listener);
  }

  async allReduce(values: Float32Array): Promise<void> {
    this.#sequence += 1;
    this.#leader.send("partial", this.#sequence, bytesOf(values));
    const frame = await this.#leader.receiveFor("sum", this.#sequence, values.byteLength);
    values.set(new Float32Array(frame.buffer, 0, values.length));
    this.#leader.recycle(frame);
  }

  async gather(slice: Float32Array): Promise<undefined> {
    this.#sequence += 1;
    this.#leader.send("slice", this.#sequence, bytesOf(slice));
  }

  async broadcast(): Promise<Int32Array> {
    this.#sequence += 1;
    const { buffer, bytes } = await this.#leader.receiveFor("broadcast", this.#sequence);
    return new Int32Array(buffer, 0, bytes / 4);
  }

  close(): void {
    this.#leader.close(new EngineError("closed", "The rank has left the group."));
  }
}

/**
 * Connects to the leader and joins its group.
 * Throws EngineError "leader_lost" when there is no leader, "refused" with its reason.
 */
export async function joinGroup(
  leader: { host: string; port: number },
  rank: number,
  identity: RankIdentity,
): Promise<TcpSpoke> {
  const connection = await connect(leader);
  const peer = `the leader at ${leader.host}:${leader.port}`;
  const socket = new FrameSocket(connection, { peer, lostCode: "leader_lost" });
  const ranks = await presentRank(socket, rank, identity);
  return new TcpSpoke(socket, rank, ranks);
}

function connect({ host, port }: { host: string; port: number }): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const connection = createConnection({ host, port, timeout: connectTimeoutMs });
    const fail = (cause?: unknown) => {
      connection.destroy();
      const message = `There is no leader at ${host}:${port}.`;
      reject(new EngineError("leader_lost", message, { cause }));
    };
    connection.once("error", fail);
    connection.once("timeout", () => fail());
    connection.once("connect", () => {
      connection.setTimeout(0);
      connection.removeListener("error", fail);
      resolve(connection);
    });
  });
}
