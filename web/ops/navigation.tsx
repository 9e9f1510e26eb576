import { type OpsRoute, opsAddress, plotWindows } from "./route.ts";

const views = [
  { view: "overview", name: "Overview", address: opsAddress({ view: "overview" }) },
  { view: "groups", name: "Groups", address: opsAddress({ view: "groups" }) },
  { view: "queues", name: "Queues", address: opsAddress({ view: "queues" }) },
  { view: "turns", name: "Turns", address: opsAddress({ view: "turns", filter: {} }) },
  { view: "rollouts", name: "Rollouts", address: opsAddress({ view: "rollouts" }) },
  { view: "log", name: "Event log", address: opsAddress({ view: "log", filter: {} }) },
  {
    view: "plots",
    name: "Plots",
    address: opsAddress({ view: "plots", windowMs: plotWindows[0] ?? 0 }),
  },
] as const;

/** The views. Plain links: the browser's own keys and history work. */
export function Navigation({ route }: { route: OpsRoute }) {
  return (
    <nav className="ops-nav" aria-label="Operations">
      <ul>
        {views.map(({ view, name, address }) => (
          <li key={view}>
            <a href={address} aria-current={currentOf(view, route)}>
              {name}
            </a>
          </li>
        ))}
      </ul>
    </nav>
  );
}

/** One turn is a part of the turns. */
function currentOf(view: string, route: OpsRoute): "page" | "true" | undefined {
  if (view === "turns" && route.view === "turn") return "true";
  return view === route.view ? "page" : undefined;
}

export function titleOf(route: OpsRoute): string {
  if (route.view === "turn") return `Turn ${route.turnId}`;
  return views.find(({ view }) => view === route.view)?.name ?? "Operations";
}
