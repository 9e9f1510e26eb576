import { type Dispatch, useCallback, useEffect, useMemo, useReducer, useRef } from "react";
import { connect } from "../client/client.ts";
import {
  type ChatAction,
  type ChatState,
  chatReducer,
  initialChatState,
  newThread,
} from "./chat-state.ts";
import type { Config } from "./config.ts";
import { type HistoryApi, historyApi } from "./history-api.ts";
import { useRunningTurns } from "./use-running-turns.ts";

export interface Chat {
  state: ChatState;
  /** Loads the conversation, unless it is here already, and goes on with a turn that runs. */
  show(conversationId: string): void;
  /** Asks in a conversation, or in a new one. */
  ask(conversationId: string | undefined, prompt: string, model: string | undefined): void;
  stop(key: string): void;
  loadMore(): void;
}

/** The page's state, and what moves it: the history over HTTP, and turns over the socket. */
export function useChat(config: Config, onError: (message: string) => void): Chat {
  const [state, dispatch] = useReducer(chatReducer, initialChatState);
  const latest = useRef(state);
  latest.current = state;
  const { api, client } = useServer(config, dispatch);
  const { follow, stop } = useRunningTurns(latest, dispatch);

  const attempt = useCallback(
    (work: () => Promise<void>) => {
      work().catch((error: unknown) =>
        onError(error instanceof Error ? error.message : `${error}`),
      );
    },
    [onError],
  );

  const loadMore = usePages(api, state.next, attempt, dispatch);

  const show = useCallback(
    (conversationId: string) => {
      const thread = latest.current.threads[conversationId];
      if (thread !== undefined && thread.status !== "missing") return;
      dispatch({ type: "threadLoading", thread: conversationId });
      attempt(async () => {
        const turns = await api.turns(conversationId);
        dispatch({ type: "threadLoaded", thread: conversationId, turns });
        for (const { id, status } of turns ?? []) {
          if (status !== "requested" && status !== "running") continue;
          void follow(id, client.resume({ turnId: id }));
        }
      });
    },
    [api, attempt, client, follow],
  );

  const ask = useCallback(
    (conversationId: string | undefined, prompt: string, model: string | undefined) => {
      const key = crypto.randomUUID();
      dispatch({ type: "asked", thread: conversationId ?? newThread, key, prompt });
      const turn = client.chat({
        prompt,
        ...(conversationId === undefined ? {} : { conversationId }),
        ...(model === undefined ? {} : { model }),
      });
      void follow(key, turn);
    },
    [client, follow],
  );

  return { state, show, ask, stop, loadMore };
}

function useServer(config: Config, dispatch: Dispatch<ChatAction>) {
  const api = useMemo(() => historyApi(config), [config]);
  const client = useMemo(
    () =>
      connect({
        url: config.webSocketUrl,
        credential: config.credential,
        onState: (connection) => dispatch({ type: "connection", state: connection }),
      }),
    [config, dispatch],
  );
  return { api, client };
}

/** Loads the newest conversations. @returns what loads the next older ones. */
function usePages(
  api: HistoryApi,
  next: string | null,
  attempt: (work: () => Promise<void>) => void,
  dispatch: Dispatch<ChatAction>,
): () => void {
  const loadPage = useCallback(
    (before?: string) =>
      attempt(async () => {
        const page = await api.conversations(before);
        const append = before !== undefined;
        dispatch({ type: "conversations", page: page.conversations, next: page.next, append });
      }),
    [api, attempt, dispatch],
  );
  useEffect(() => loadPage(), [loadPage]);
  return () => {
    if (next !== null) loadPage(next);
  };
}
