import type { ReactNode } from "react";
import { Icon } from "./icons.tsx";
import { useTheme } from "./theme.ts";

interface Props {
  title: string | undefined;
  connection: string;
  drawerOpen: boolean;
  onDrawer: () => void;
  /** What stands before the colours. */
  children: ReactNode;
}

export function TopBar({ title, connection, drawerOpen, onDrawer, children }: Props) {
  const [theme, toggleTheme] = useTheme();
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
      <button
        type="button"
        className="quiet"
        onClick={toggleTheme}
        aria-label={theme === "dark" ? "Use light colours" : "Use dark colours"}
      >
        <Icon name={theme === "dark" ? "sun" : "moon"} />
      </button>
    </header>
  );
}
