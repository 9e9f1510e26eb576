import { useCallback, useEffect, useReducer, useRef, useState, useSyncExternalStore } from "react";
import type { Change } from "../../events/observations.ts";
import type { ObservedData } from "../../events/views.ts";
import { useOps } from "./ops-context.ts";
import { type Attention, afterNews, isStale, type Seen, type WatchNews, watch } from "./watch.ts";

/** Gauges move all the time: they are asked for as long as somebody looks. */
export const gaugeMs = 2_000;
/**
 * For what `noticed` frames tell of. The server tells only connections that have asked within the last
 * minute, so this keeps them coming, and mends what a lost one would have told.
 */
export const noticedMs = 25_000;

export interface Observation<Data> {
  seen: Seen<Data>;
  isStale: boolean;
  /** Asks at once. */
  refresh(): void;
}

/**
 * A view of the server, as long as the component is there.
 * @param params plain data: other values are another question.
 */
export function useObserved<View extends keyof ObservedData>(
  view: View,
  params: object,
  options: { everyMs: number; concerns?: (change: Change) => boolean },
): Observation<ObservedData[View]> {
  type Data = ObservedData[View];
  const { socket } = useOps();
  const link = useLink();
  const now = useNow(1_000);
  const asked = JSON.stringify(params);
  const question = `${view} ${asked}`;
  const [state, dispatch] = useReducer(reduce<Data>, { question, seen: { status: "loading" } });
  const concerns = useRef(options.concerns);
  concerns.current = options.concerns;
  const askNow = useRef(() => {});
  const { everyMs } = options;

  useEffect(() => {
    const started = watch(
      socket,
      {
        ...{ view, params: JSON.parse(asked) as object, everyMs },
        concerns: (change) => concerns.current?.(change) ?? false,
      },
      documentAttention,
      (news) => dispatch({ question: `${view} ${asked}`, news }),
    );
    askNow.current = started.ask;
    return started.stop;
  }, [socket, view, asked, everyMs]);

  const refresh = useCallback(() => askNow.current(), []);
  // Between another question and its answer, what is here is the answer to the one before.
  const seen: Seen<Data> = state.question === question ? state.seen : { status: "loading" };
  return { seen, isStale: isStale(seen, link, everyMs, now), refresh };
}

interface Answered<Data> {
  question: string;
  seen: Seen<Data>;
}

function reduce<Data>(
  before: Answered<Data>,
  { question, news }: { question: string; news: WatchNews },
): Answered<Data> {
  const seen: Seen<Data> = question === before.question ? before.seen : { status: "loading" };
  return { question, seen: afterNews(seen, news, Date.now()) };
}

const documentAttention: Attention = {
  isVisible: () => document.visibilityState === "visible",
  onChange(listener) {
    document.addEventListener("visibilitychange", listener);
    return () => document.removeEventListener("visibilitychange", listener);
  },
};

/** Whether there is a connection. */
export function useLink() {
  const { socket } = useOps();
  return useSyncExternalStore(
    useCallback((changed) => socket.onState(changed), [socket]),
    () => socket.state,
  );
}

/** Unix ms, renewed every `everyMs`. */
function useNow(everyMs: number): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}
