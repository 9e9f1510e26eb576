import { useEffect, useMemo, useRef, useState } from "react";
import type { Config } from "../config.ts";
import { ErrorBoundary } from "../error-boundary.tsx";
import { Icon } from "../icons.tsx";
import { newChatAddress, useRoute } from "../route.ts";
import { ThemeButton } from "../theme-button.tsx";
import { noRight } from "./action-button.tsx";
import { GroupsView } from "./groups-view.tsx";
import { LogView } from "./log-view.tsx";
import { Navigation, titleOf } from "./navigation.tsx";
import "./ops.css";
import { OpsContext } from "./ops-context.ts";
import { type OpsSocket, openOpsSocket } from "./ops-socket.ts";
import { OverviewView } from "./overview-view.tsx";
import { PlotsView } from "./plots-view.tsx";
import { QueuesView } from "./queues-view.tsx";
import { RolloutsView } from "./rollouts-view.tsx";
import { type OpsRoute, parseOpsRoute } from "./route.ts";
import { TurnView } from "./turn-view.tsx";
import { TurnsView } from "./turns-view.tsx";
import { useLink } from "./use-observed.ts";

/** The operations page: what runs, what was, and what can be done about it. */
export function OpsApp({ config }: { config: Config }) {
  const [socket, setSocket] = useState<OpsSocket>();
  useEffect(() => {
    const opened = openOpsSocket({ url: config.webSocketUrl, credential: config.credential });
    setSocket(opened);
    return () => opened.close();
  }, [config]);
  return socket === undefined ? null : <Shell socket={socket} />;
}

function Shell({ socket }: { socket: OpsSocket }) {
  const shown = useRoute();
  const hash = shown.view === "ops" ? shown.hash : "";
  const route = useMemo(() => parseOpsRoute(hash), [hash]);
  const mayAct = useMayAct(socket);
  const ops = useMemo(() => ({ socket, mayAct }), [socket, mayAct]);
  const main = useRef<HTMLElement>(null);
  const place = route.view === "turn" ? route.turnId : route.view;
  useArrival(main, place, titleOf(route));
  return (
    <OpsContext value={ops}>
      <div className="ops">
        <button type="button" className="skip" onClick={() => main.current?.focus()}>
          Skip to the view
        </button>
        <Bar mayAct={mayAct} />
        <Navigation route={route} />
        <main className="ops-main" ref={main} tabIndex={-1}>
          <ErrorBoundary key={place} message="This view cannot be shown.">
            <View route={route} />
          </ErrorBoundary>
        </main>
      </div>
    </OpsContext>
  );
}

function Bar({ mayAct }: { mayAct: boolean | undefined }) {
  const link = useLink();
  return (
    <header className="bar">
      <span className="brand">Axon</span>
      <span className="title">Operations</span>
      {mayAct === false && (
        <span className="badge tone-quiet" title={noRight}>
          view only
        </span>
      )}
      <span className="connection" role="status">
        {link === "reconnecting" && "Reconnecting…"}
      </span>
      <a className="quiet" href={newChatAddress} aria-label="Chat" title="Chat">
        <Icon name="chat" />
      </a>
      <ThemeButton />
    </header>
  );
}

function View({ route }: { route: OpsRoute }) {
  switch (route.view) {
    case "overview":
      return <OverviewView />;
    case "groups":
      return <GroupsView />;
    case "queues":
      return <QueuesView />;
    case "turns":
      return <TurnsView filter={route.filter} />;
    case "turn":
      return <TurnView turnId={route.turnId} />;
    case "rollouts":
      return <RolloutsView model={route.model} at={route.at} />;
    case "log":
      return <LogView filter={route.filter} />;
    case "plots":
      return <PlotsView windowMs={route.windowMs} revision={route.revision} />;
    case "unknown":
      return (
        <>
          <h1>There is no such view</h1>
          <p>
            This address leads nowhere. <a href="#/ops">See the overview.</a>
          </p>
        </>
      );
  }
}

/** Whoever comes to another view starts at its top: also with the keyboard, and by ear. */
function useArrival(main: React.RefObject<HTMLElement | null>, place: string, title: string): void {
  const isFirst = useRef(true);
  useEffect(() => {
    document.title = `${title} · Axon`;
  }, [title]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: it is the place that one arrives at
  useEffect(() => {
    if (!isFirst.current) main.current?.focus({ preventScroll: true });
    isFirst.current = false;
    main.current?.scrollTo({ top: 0 });
  }, [main, place]);
}

/** Asks for the description of all orders, which changes nothing and needs the scope to give them. */
function useMayAct(socket: OpsSocket): boolean | undefined {
  const [mayAct, setMayAct] = useState<boolean>();
  useEffect(() => {
    let isOver = false;
    socket.operate({ command: "help" }).then(
      () => !isOver && setMayAct(true),
      // What is not known for sure is tried: the server has the last word in any case.
      ({ code }: { code?: string }) => !isOver && setMayAct(code !== "forbidden"),
    );
    return () => {
      isOver = true;
    };
  }, [socket]);
  return mayAct;
}
