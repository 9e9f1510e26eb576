import { useCallback, useEffect, useMemo, useReducer, useRef } from "react";
import { connect } from "../client/client.ts";
import type { AxonClientError } from "../client/errors.ts";
import type { Turn } from "../client/turn.ts";
import { type ChatState, chatReducer, initialChatState, newThread } from "./chat-state.ts";
import type { Config } from "./config.ts";
import { historyApi } from "./history-api.ts";
import { conversationAddress, replaceAddress } from "./route.ts";

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
  const api = useMemo(() => historyApi(config), [config]);
  const client = useMemo(
    () =>
      connect({
        url: config.webSocketUrl,
        credential: config.credential,
        onState: (connection) => dispatch({ type: "connection", state: connection }),
      }),
    [config],
  );
  const running = useRef(new Map<string, Turn>());

  const follow = useCallback(async (key: string, turn: Turn) => {
    const askedAt = performance.now();
    let firstTokenMs: number | undefined;
    running.current.set(key, turn);
    try {
      for await (const update of turn) {
        if (update.type === "accepted") {
          const { turnId, conversationId, revision } = update;
          const at = Date.now();
          const isShownAsNew = latest.current.threads[newThread]?.turnKeys.includes(key);
          dispatch({ type: "accepted", key, turnId, conversationId, revision, at });
          if (isShownAsNew) replaceAddress(conversationAddress(conversationId));
        } else if (update.type === "text") {
          if (turn.conversationId !== undefined) firstTokenMs ??= performance.now() - askedAt;
          dispatch({ type: "text", key, text: update.text });
        } else if (update.type === "rewind") {
          dispatch({ type: "rewound", key, text: update.text });
        } else {
          const timing = firstTokenMs === undefined ? {} : { firstTokenMs };
          dispatch({ type: "ended", key, done: update, ...timing });
        }
      }
    } catch (error) {
      const { message, retryable } = error as AxonClientError;
      dispatch({ type: "failed", key, error: { message, retryable } });
    } finally {
      running.current.delete(key);
    }
  }, []);

  const attempt = useCallback(
    (work: () => Promise<void>) => {
      work().catch((error: unknown) =>
        onError(error instanceof Error ? error.message : `${error}`),
      );
    },
    [onError],
  );

  const loadPage = useCallback(
    (before?: string) =>
      attempt(async () => {
        const { conversations, next } = await api.conversations(before);
        dispatch({
          type: "conversations",
          page: conversations,
          next,
          append: before !== undefined,
        });
      }),
    [api, attempt],
  );

  useEffect(() => loadPage(), [loadPage]);

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

  return {
    state,
    show,
    ask,
    stop: (key) => running.current.get(key)?.cancel(),
    loadMore: () => {
      if (state.next !== null) loadPage(state.next);
    },
  };
}
