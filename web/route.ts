import { useSyncExternalStore } from "react";

/** What the page shows, as its address says it. */
export type Route =
  | { view: "chat"; conversationId: string | undefined }
  /** The operations page; web/ops/route.ts reads the rest. */
  | { view: "ops"; hash: string };

export function parseRoute(hash: string): Route {
  if (/^#\/ops(?:[/?]|$)/.test(hash)) return { view: "ops", hash };
  const match = /^#\/c\/([A-Za-z0-9_-]{1,64})$/.exec(hash);
  return { view: "chat", conversationId: match?.[1] };
}

export const conversationAddress = (id: string): string => `#/c/${id}`;
export const newChatAddress = "#/";
export const operationsAddress = "#/ops";

export function useRoute(): Route {
  const hash = useSyncExternalStore(
    (changed) => {
      addEventListener("hashchange", changed);
      return () => removeEventListener("hashchange", changed);
    },
    () => location.hash,
  );
  return parseRoute(hash);
}

/** Names the page anew without a step in the history: a new chat has been given its id. */
export function replaceAddress(address: string): void {
  history.replaceState(null, "", address);
  dispatchEvent(new HashChangeEvent("hashchange"));
}
