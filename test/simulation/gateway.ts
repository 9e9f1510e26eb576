import type { ClientFrame, ServerFrame } from "../../events/frames.ts";
import { travelMs, type World } from "./world.ts";

/** The functions behind the gateway's routes. */
interface Routes {
  frame: (connectionId: string, frame: ClientFrame) => void;
  disconnect: (connectionId: string) => void;
}

/** Whose a socket is, and what passes through it on both ways. */
interface Owner {
  name: string;
  sends: (frame: ClientFrame) => ClientFrame;
  hears: (frame: ServerFrame, deliver: (frame: ServerFrame) => void) => void;
}

interface Connection {
  id: string;
  socket: SimulatedSocket;
  /** Its network is gone, and nobody has noticed: what is sent goes nowhere. */
  isDeaf: boolean;
  lastArrival: number;
}

/** A browser's WebSocket, as much of it as the client uses. */
export class SimulatedSocket {
  readyState = 0;
  onopen: (() => void) | undefined;
  onclose: (() => void) | undefined;
  onmessage: ((message: { data: string }) => void) | undefined;
  readonly owner: Owner;
  readonly #gateway: Gateway;

  constructor(gateway: Gateway, owner: Owner) {
    this.#gateway = gateway;
    this.owner = owner;
    gateway.connect(this);
  }

  send(data: string): void {
    this.#gateway.receive(this, data);
  }

  close(): void {
    this.readyState = 3;
    this.#gateway.closeOf(this);
  }
}

/** API Gateway: frames of one connection arrive in order; what is posted to a closed one is refused. */
export class Gateway {
  readonly #world: World;
  readonly #routes: Routes;
  readonly #connections = new Map<string, Connection>();
  #opened = 0;

  constructor(world: World, routes: Routes) {
    this.#world = world;
    this.#routes = routes;
  }

  get open(): string[] {
    return [...this.#connections.keys()];
  }

  connect(socket: SimulatedSocket): void {
    const { name } = socket.owner;
    this.#world.time.after(5 + travelMs(this.#world), () => {
      if (socket.readyState !== 0) return;
      const id = `${name}.${++this.#opened}`;
      this.#connections.set(id, { id, socket, isDeaf: false, lastArrival: 0 });
      this.#world.log?.(name, `is connected as ${id}`);
      socket.readyState = 1;
      socket.onopen?.();
    });
  }

  receive(socket: SimulatedSocket, data: string): void {
    const connection = this.#of(socket);
    if (connection === undefined || connection.isDeaf) return;
    const frame = socket.owner.sends(JSON.parse(data) as ClientFrame);
    this.#world.time.after(travelMs(this.#world), () => this.#routes.frame(connection.id, frame));
  }

  /** @returns "gone" when the connection is closed. */
  post(connectionId: string, frame: ServerFrame): "sent" | "gone" {
    const connection = this.#connections.get(connectionId);
    if (connection === undefined) return "gone";
    const { time } = this.#world;
    connection.lastArrival = Math.max(connection.lastArrival, time.now + travelMs(this.#world));
    time.after(connection.lastArrival - time.now, () => {
      const { socket, isDeaf } = connection;
      if (isDeaf || socket.readyState !== 1) return;
      socket.owner.hears(frame, (heard) => socket.onmessage?.({ data: JSON.stringify(heard) }));
    });
    return "sent";
  }

  /** The network of a connection goes, at once or without anybody noticing for a while. */
  cut(connectionId: string, unnoticedMs: number): void {
    const connection = this.#connections.get(connectionId);
    if (connection === undefined) return;
    connection.isDeaf = true;
    this.#world.time.after(unnoticedMs, () => this.#close(connection));
  }

  closeOf(socket: SimulatedSocket): void {
    const connection = this.#of(socket);
    if (connection !== undefined) this.#close(connection);
  }

  #close(connection: Connection): void {
    if (!this.#connections.delete(connection.id)) return;
    const { socket } = connection;
    this.#world.log?.(connection.id, "is closed");
    this.#routes.disconnect(connection.id);
    if (socket.readyState === 3) return;
    socket.readyState = 3;
    socket.onclose?.();
  }

  #of(socket: SimulatedSocket): Connection | undefined {
    return [...this.#connections.values()].find((connection) => connection.socket === socket);
  }
}
