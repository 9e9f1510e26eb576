import type { ReactNode } from "react";
import { Icon } from "./icons.tsx";
import { operationsAddress } from "./route.ts";
import { ThemeButton } from "./theme-button.tsx";

interface Props {
  title: string | undefined;
  connection: string;
  drawerOpen: boolean;
  onDrawer: () => void;
  /** The credential opens the operations page, too. */
  mayOperate: boolean;
  /** What stands before the colours. */
  children: ReactNode;
}

export function TopBar({ title, connection, drawerOpen, onDrawer, mayOperate, children }: Props) {
  return (
    <header className="bar">
      <button
        type="button"
        className="quiet drawer-button"
        aria-label={drawerOpen ? "Hide the conversations" : "Show the conversations"}
        aria-expanded={drawerOpen}
        onClick={onDrawer}
      >
        <Icon name={drawerOpen ? "close" : "menu"} />
      </button>
      <span className="brand">Axon</span>
      <span className="title">{title}</span>
      {connection === "reconnecting" && (
        <span className="connection" role="status">
          Reconnecting…
        </span>
      )}
      {children}
      {mayOperate && (
        <a className="quiet" href={operationsAddress} aria-label="Operations" title="Operations">
          <Icon name="gauge" />
        </a>
      )}
      <ThemeButton />
    </header>
  );
}
