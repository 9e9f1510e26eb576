import { useCallback, useEffect, useRef, useState } from "react";
import type { ChatRequest, Client, ResumeRequest } from "./client.ts";
import { AxonClientError } from "./errors.ts";
import type { Turn } from "./turn.ts";

/** An answer as a component shows it. */
export interface Answer {
  /**
   *   idle       → asking      `ask` or `resume` was called.
   *   asking     → streaming   the first words are there.
   *   asking, streaming → completed | cancelled | failed   it has ended; `ask` begins anew.
   */
  status: "idle" | "asking" | "streaming" | "completed" | "cancelled" | "failed";
  /** What was said so far. */
  text: string;
  /** Known once the turn is accepted; a later visit resumes by the first of them. */
  turnId: string | undefined;
  conversationId: string | undefined;
  /** Only with `failed`. */
  error: AxonClientError | undefined;
}

export interface UseAnswer extends Answer {
  ask(request: ChatRequest): void;
  resume(request: ResumeRequest): void;
  /** Ends the turn; what was said stays. */
  stop(): void;
}

const idle: Answer = {
  ...{ status: "idle", text: "", turnId: undefined, conversationId: undefined, error: undefined },
};

/**
 * Follows one turn after the other for a component. When the component goes, the turn goes on: who comes
 * back resumes it. A new `ask` leaves the turn before it in the same way.
 */
export function useAnswer(client: Client): UseAnswer {
  const [answer, setAnswer] = useState<Answer>(idle);
  const following = useRef<Turn | undefined>(undefined);

  const follow = useCallback(async (turn: Turn, text: string) => {
    following.current = turn;
    setAnswer({ ...idle, status: "asking", text });
    const change = (next: Partial<Answer>) => {
      if (following.current === turn) setAnswer((before) => ({ ...before, ...next }));
    };
    let said = text;
    try {
      for await (const update of turn) {
        if (following.current !== turn) return;
        switch (update.type) {
          case "accepted":
            change({ turnId: update.turnId, conversationId: update.conversationId });
            break;
          case "text":
            said += update.text;
            change({ status: "streaming", text: said });
            break;
          case "rewind":
            said = update.text;
            change({ text: said });
            break;
          case "done":
            change(endOf(update.finishReason, update.error));
            break;
        }
      }
    } catch (error) {
      if (error instanceof AxonClientError) change({ status: "failed", error });
      else throw error;
    }
  }, []);

  useEffect(
    () => () => {
      following.current = undefined;
    },
    [],
  );

  return {
    ...answer,
    ask: (request) => void follow(client.chat(request), ""),
    resume: (request) => void follow(client.resume(request), request.text ?? ""),
    stop: () => following.current?.cancel(),
  };
}

function endOf(
  finishReason: string,
  error: { code: string; message: string } | undefined,
): Partial<Answer> {
  if (finishReason === "cancelled") return { status: "cancelled" };
  if (error === undefined) return { status: "completed" };
  return { status: "failed", error: new AxonClientError(error.code, error.message) };
}
