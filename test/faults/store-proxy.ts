import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** How a store is away: as a machine that has stopped, or as one without a server. */
type OutageMode = "hangs" | "refuses";

/** Stands between a store and those who use it, and can be away for them. */
export interface StoreProxy {
  url: string;
  /** Resolves when the store is back. Outages that overlap last until the last one ends. */
  outage(mode: OutageMode, ms: number): Promise<void>;
  /** Loses the connections there are, as a network that has forgotten them: neither side hears of it. */
  forget(): void;
  close(): void;
}

export async function startStoreProxy(target: string): Promise<StoreProxy> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  const forgotten = new Set<Socket>();
  const away: OutageMode[] = [];

  const server = createServer((near) => {
    if (away.includes("refuses")) {
      near.destroy();
      return;
    }
    const far = connect(Number(port), hostname);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on("data", (data) => to.write(data));
      from.on("end", () => to.end());
      from.on("error", () => to.destroy());
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
      if (away.length > 0) from.pause();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async outage(mode, ms) {
      away.push(mode);
      for (const socket of sockets) {
        if (mode === "refuses") socket.destroy();
        else socket.pause();
      }
      await new Promise((resolve) => setTimeout(resolve, ms));
      away.splice(away.indexOf(mode), 1);
      if (away.length === 0) for (const socket of sockets) socket.resume();
    },
    forget() {
      for (const socket of sockets) {
        socket.pause();
        forgotten.add(socket);
      }
      sockets.clear();
    },
    close() {
      server.close();
      for (const socket of [...sockets, ...forgotten]) socket.destroy();
    },
  };
}
