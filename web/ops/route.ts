/**
 * The addresses of the operations page: `#/ops`, then the view, then what it is narrowed down to. Whoever
 * is sent one sees the same.
 */
export type OpsRoute =
  | { view: "overview" }
  | { view: "groups" }
  | { view: "queues" }
  | { view: "turns"; filter: TurnFilter }
  | { view: "turn"; turnId: string }
  /** `at`, Unix ms: the model as it was then. */
  | { view: "rollouts"; model?: string; at?: number }
  | { view: "log"; filter: LogFilter }
  | { view: "plots"; windowMs: number; revision?: string }
  | { view: "unknown" };

export interface TurnFilter {
  status?: (typeof turnStatuses)[number];
  model?: string;
  revision?: string;
  /** Cursor of a page of older turns. */
  before?: string;
}

export interface LogFilter {
  /** The beginning of the streams' names. */
  stream?: string;
  /** Of an event. */
  type?: string;
  /** The log as it was then, Unix ms. Without: as it grows. */
  at?: number;
  /** The commit that is shown whole, and at which its stream is folded. */
  commit?: CommitName;
}

export interface CommitName {
  stream: string;
  position: string;
}

export const turnStatuses = ["open", "completed", "cancelled", "failed"] as const;
export const plotWindows = [15, 60, 360, 1_440].map((minutes) => minutes * 60_000);
const firstWindow = plotWindows[0] ?? 0;

/** Reads an address. What it says wrongly counts as not said; a view that there is not is `unknown`. */
export function parseOpsRoute(hash: string): OpsRoute {
  const [path = "", query = ""] = hash.replace(/^#\/ops\/?/, "").split("?", 2);
  const asked = new URLSearchParams(query);
  const [view, ...rest] = path.split("/");
  if (view === "turns" && rest.length === 1 && rest[0] !== "") {
    return { view: "turn", turnId: decoded(rest[0] ?? "") };
  }
  if (rest.some((part) => part !== "")) return { view: "unknown" };
  switch (view) {
    case "":
      return { view: "overview" };
    case "groups":
    case "queues":
      return { view };
    case "turns":
      return { view, filter: turnFilterOf(asked) };
    case "rollouts":
      return { view, ...textOf(asked, "model"), ...timeOf(asked) };
    case "log":
      return { view, filter: logFilterOf(asked) };
    case "plots": {
      const minutes = Number(asked.get("minutes"));
      const windowMs = plotWindows.find((each) => each === minutes * 60_000) ?? firstWindow;
      return { view, windowMs, ...textOf(asked, "revision") };
    }
    default:
      return { view: "unknown" };
  }
}

function turnFilterOf(asked: URLSearchParams): TurnFilter {
  const status = turnStatuses.find((each) => each === asked.get("status"));
  return {
    ...(status !== undefined && { status }),
    ...textOf(asked, "model"),
    ...textOf(asked, "revision"),
    ...textOf(asked, "before"),
  };
}

function logFilterOf(asked: URLSearchParams): LogFilter {
  const [, position, stream] =
    /^([0-9A-HJKMNP-TV-Z]{26})-(.+)$/s.exec(asked.get("commit") ?? "") ?? [];
  return {
    ...textOf(asked, "stream"),
    ...textOf(asked, "type"),
    ...timeOf(asked),
    ...(position !== undefined && stream !== undefined && { commit: { stream, position } }),
  };
}

function textOf<Name extends string>(asked: URLSearchParams, name: Name): { [N in Name]?: string } {
  const text = asked.get(name);
  return (text === null || text === "" ? {} : { [name]: text }) as { [N in Name]?: string };
}

function timeOf(asked: URLSearchParams): { at?: number } {
  const text = asked.get("at") ?? "";
  return /^\d{1,16}$/.test(text) ? { at: Number(text) } : {};
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of a view: what `parseOpsRoute` reads back. */
export function opsAddress(route: Exclude<OpsRoute, { view: "unknown" }>): string {
  switch (route.view) {
    case "overview":
      return "#/ops";
    case "groups":
    case "queues":
      return `#/ops/${route.view}`;
    case "turn":
      return `#/ops/turns/${encodeURIComponent(route.turnId)}`;
    case "turns":
      return `#/ops/turns${queryOf({ ...route.filter })}`;
    case "rollouts":
      return `#/ops/rollouts${queryOf({ model: route.model, at: route.at })}`;
    case "log": {
      const { commit, ...filter } = route.filter;
      const name = commit && `${commit.position}-${commit.stream}`;
      return `#/ops/log${queryOf({ ...filter, commit: name })}`;
    }
    case "plots": {
      const minutes = route.windowMs === firstWindow ? undefined : route.windowMs / 60_000;
      return `#/ops/plots${queryOf({ minutes, revision: route.revision })}`;
    }
  }
}

function queryOf(values: Record<string, string | number | undefined>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined && value !== "") query.set(name, `${value}`);
  }
  const text = query.toString();
  return text === "" ? "" : `?${text}`;
}
