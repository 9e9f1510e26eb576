import { runPart } from "./part-process.ts";
import { startSocketIo } from "./socket-io.ts";

/** The peer's server that has the connections: each joins the room of its turn. */
runPart<{ folder: string; redisUrl: string }, never>(async ({ folder, redisUrl }) => {
  const { io, url } = await startSocketIo(folder, redisUrl);
  io.on("connection", (socket) => socket.on("watch", (turnId) => socket.join(turnId)));
  return { ready: { url } };
});
