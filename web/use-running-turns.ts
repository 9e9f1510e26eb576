import { type Dispatch, type RefObject, useCallback, useRef } from "react";
import type { AxonClientError } from "../client/errors.ts";
import type { Turn, TurnUpdate } from "../client/turn.ts";
import { type ChatAction, type ChatState, newThread, problemOf } from "./chat-state.ts";
import { conversationAddress, replaceAddress } from "./route.ts";

/** Reads turns to their end, whatever conversation is shown meanwhile. */
export function useRunningTurns(latest: RefObject<ChatState>, dispatch: Dispatch<ChatAction>) {
  const running = useRef(new Map<string, Turn>());

  const follow = useCallback(
    async (key: string, turn: Turn) => {
      const askedAt = performance.now();
      let firstTokenMs: number | undefined;
      running.current.set(key, turn);
      try {
        for await (const update of turn) {
          // Of a turn that is resumed nobody here knows when it was asked.
          const isOwn = turn.conversationId !== undefined;
          if (update.type === "text" && isOwn) firstTokenMs ??= performance.now() - askedAt;
          const isShownAsNew = latest.current.threads[newThread]?.turnKeys.includes(key);
          dispatch(actionOf(key, update, firstTokenMs));
          if (update.type === "accepted" && isShownAsNew) {
            replaceAddress(conversationAddress(update.conversationId));
          }
        }
      } catch (error) {
        dispatch({ type: "failed", key, error: problemOf(error as AxonClientError) });
      } finally {
        running.current.delete(key);
      }
    },
    [latest, dispatch],
  );

  const stop = useCallback((key: string) => running.current.get(key)?.cancel(), []);
  return { follow, stop };
}

function actionOf(key: string, update: TurnUpdate, firstTokenMs: number | undefined): ChatAction {
  switch (update.type) {
    case "accepted": {
      const { turnId, conversationId, revision, queue, warming } = update;
      const waits = { queuePosition: queue?.position, warmingMs: warming?.estimatedMs };
      return {
        ...{ type: "accepted", key, turnId, conversationId, revision, at: Date.now() },
        ...waits,
      };
    }
    case "text":
      return { type: "text", key, text: update.text };
    case "rewind":
      return { type: "rewound", key, text: update.text };
    case "done":
      return {
        ...{ type: "ended", key, done: update },
        ...(firstTokenMs === undefined ? {} : { firstTokenMs }),
      };
  }
}
