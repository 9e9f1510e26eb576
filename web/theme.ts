import { useEffect, useLayoutEffect, useState } from "react";

type Theme = "light" | "dark";
const storageKey = "axon.theme";

/** The chosen theme, or the system's as long as none was chosen. */
export function useTheme(): [theme: Theme, toggle: () => void] {
  const [chosen, choose] = useState(() => localStorage.getItem(storageKey) as Theme | null);
  const [system, setSystem] = useState<Theme>(() => systemTheme());
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => setSystem(systemTheme());
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, []);
  const theme = chosen ?? system;
  useLayoutEffect(() => {
    document.documentElement.dataset["theme"] = theme;
  }, [theme]);
  const toggle = () => {
    const next = theme === "dark" ? "light" : "dark";
    localStorage.setItem(storageKey, next);
    choose(next);
  };
  return [theme, toggle];
}

function systemTheme(): Theme {
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
