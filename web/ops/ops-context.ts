import { createContext, useContext } from "react";
import type { OpsSocket } from "./ops-socket.ts";

/** What every view of the operations page needs. */
export interface Ops {
  socket: OpsSocket;
  /** Whether the credential may act; undefined until the server has said so. */
  mayAct: boolean | undefined;
}

export const OpsContext = createContext<Ops | undefined>(undefined);

export function useOps(): Ops {
  const ops = useContext(OpsContext);
  if (ops === undefined) throw new Error("A view of the operations page stands outside of it.");
  return ops;
}
