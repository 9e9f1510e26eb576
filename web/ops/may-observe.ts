import type { Config } from "../config.ts";
import { openOpsSocket } from "./ops-socket.ts";

/**
 * Whether the credential has the scope `ops:read`: found out by asking for a view.
 * @throws OpsError where nothing was found out.
 */
export async function mayObserve({ webSocketUrl, credential }: Config): Promise<boolean> {
  const socket = openOpsSocket({ url: webSocketUrl, credential });
  try {
    await socket.observe("overview", {});
    return true;
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "forbidden" || code === "unknown_action") return false;
    throw error;
  } finally {
    socket.close();
  }
}
