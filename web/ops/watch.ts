import type { Change } from "../../events/observations.ts";
import { type Observed, OpsError, type OpsSocket } from "./ops-socket.ts";

/**
 * A view of the server that is kept up to date: asked for again after `everyMs`, when the log has grown by
 * something that concerns it, when the connection is back and when the page is looked at again. Never two
 * questions at the same time; nothing is asked while nobody looks.
 */
export interface Watch {
  view: string;
  params: object;
  everyMs: number;
  /** Whether growth of the log changes what is shown; left out, nothing does. */
  concerns?: ((change: Change) => boolean) | undefined;
}

export type WatchNews =
  | { type: "answered"; answer: Observed }
  | { type: "failed"; error: OpsError };

/** Whether anybody looks at the page, and word of changes: `document`, but for tests. */
export interface Attention {
  isVisible(): boolean;
  /** @returns what ends it. */
  onChange(listener: () => void): () => void;
}

/** After a refusal that waiting may mend. */
const againMs = 2_000;

/** @returns what ends it, and what asks at once. */
export function watch(
  socket: OpsSocket,
  { view, params, everyMs, concerns }: Watch,
  attention: Attention,
  tell: (news: WatchNews) => void,
): { stop: () => void; ask: () => void } {
  let isOver = false;
  let isAsking = false;
  let isOutdated = false;
  let timer: ReturnType<typeof setTimeout> | undefined;

  function ask(): void {
    clearTimeout(timer);
    if (isOver) return;
    if (isAsking || !attention.isVisible()) {
      isOutdated = true;
      return;
    }
    isAsking = true;
    isOutdated = false;
    socket
      .observe(view, params)
      .then((answer) => hear({ type: "answered", answer }, everyMs))
      .catch((cause: unknown) => {
        const error =
          cause instanceof OpsError ? cause : new OpsError("internal", `${cause}`, false);
        hear({ type: "failed", error }, error.retryable ? againMs : undefined);
      });
  }

  function hear(news: WatchNews, nextMs: number | undefined): void {
    isAsking = false;
    if (isOver) return;
    tell(news);
    if (isOutdated) ask();
    else if (nextMs !== undefined) timer = setTimeout(ask, nextMs);
  }

  const endings = [
    socket.onState(() => socket.state === "open" && ask()),
    socket.onNoticed((changes) => {
      if (concerns !== undefined && changes.some(concerns)) ask();
    }),
    attention.onChange(() => attention.isVisible() && ask()),
  ];
  ask();
  const stop = () => {
    isOver = true;
    clearTimeout(timer);
    for (const end of endings) end();
  };
  return { stop, ask };
}

/** What a view knows of the server. What was answered once stays until something newer comes. */
export type Seen<Data> =
  | { status: "loading" }
  | { status: "refused"; error: OpsError }
  | {
      status: "shown";
      data: Data;
      /** By the server's clock. */
      at: number;
      /** By this machine's clock. */
      heardAt: number;
      /** Why nothing newer came. */
      problem: OpsError | undefined;
    };

export function afterNews<Data>(before: Seen<Data>, news: WatchNews, now: number): Seen<Data> {
  if (news.type === "answered") {
    const { at, data } = news.answer;
    return { status: "shown", data: data as Data, at, heardAt: now, problem: undefined };
  }
  const { error } = news;
  if (before.status === "shown" && error.code !== "forbidden") return { ...before, problem: error };
  return { status: "refused", error };
}

/** Whether what is shown may not be so any more: nothing was heard for much longer than is usual. */
export function isStale(
  seen: Seen<unknown>,
  link: OpsSocket["state"],
  everyMs: number,
  now: number,
): boolean {
  if (seen.status !== "shown") return false;
  return seen.problem !== undefined || link !== "open" || now - seen.heardAt > everyMs + 8_000;
}
