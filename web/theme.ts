import { useLayoutEffect, useSyncExternalStore } from "react";

type Theme = "light" | "dark";
const storageKey = "axon.theme";
const darkSystem = "(prefers-color-scheme: dark)";

/** Everything on the page that shows or sets the theme. */
const listeners = new Set<() => void>();

/** The chosen theme, or the system's as long as none was chosen; the same one for the whole page. */
export function useTheme(): [theme: Theme, toggle: () => void] {
  const theme = useSyncExternalStore(listen, currentTheme);
  useLayoutEffect(() => {
    document.documentElement.dataset["theme"] = theme;
  }, [theme]);
  return [theme, toggle];
}

function listen(changed: () => void): () => void {
  listeners.add(changed);
  const query = matchMedia(darkSystem);
  query.addEventListener("change", changed);
  return () => {
    listeners.delete(changed);
    query.removeEventListener("change", changed);
  };
}

function currentTheme(): Theme {
  const chosen = localStorage.getItem(storageKey);
  if (chosen === "light" || chosen === "dark") return chosen;
  return matchMedia(darkSystem).matches ? "dark" : "light";
}

function toggle(): void {
  localStorage.setItem(storageKey, currentTheme() === "dark" ? "light" : "dark");
  for (const changed of listeners) changed();
}
