import { Icon } from "./icons.tsx";
import { useTheme } from "./theme.ts";

/** Changes between light and dark. */
export function ThemeButton() {
  const [theme, toggle] = useTheme();
  return (
    <button
      type="button"
      className="quiet"
      onClick={toggle}
      aria-label={theme === "dark" ? "Use light colours" : "Use dark colours"}
    >
      <Icon name={theme === "dark" ? "sun" : "moon"} />
    </button>
  );
}
