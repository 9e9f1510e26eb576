import { fold } from "../../../events/decider.ts";
import { AxonError } from "../../../events/errors.ts";
import type { Commit } from "../../../events/event-log.ts";
import { timeOfPosition } from "../../../events/ids.ts";
import type { ObservedData } from "../../../events/views.ts";
import type { Deps } from "../deps.ts";
import { isThere, type Moment } from "../rollout/rollout-past.ts";
import { conversations, groups, rollouts, turns } from "../streams.ts";
import { omitTexts } from "./omit-texts.ts";
import type { Viewer } from "./operator.ts";
import { tenantIn } from "./tenants.ts";

/** How each kind of stream adds up, by the beginning of its name. */
const folds = {
  turn: (commits) => fold(turns.decider, eventsOf(commits).filter(turns.isOwn)),
  conversation: (commits) =>
    fold(conversations.decider, eventsOf(commits).filter(conversations.isOwn)),
  group: (commits) => fold(groups.decider, eventsOf(commits).filter(groups.isOwn)),
  rollout: (commits) => fold(rollouts.decider, eventsOf(commits).filter(rollouts.isOwn)),
} satisfies Record<string, (commits: readonly Commit[]) => object>;

const eventsOf = (commits: readonly Commit[]) => commits.flatMap(({ events }) => events);

/**
 * The state of a stream at a moment, as its decider sees it.
 * @throws AxonError not_found where there is no such stream, or it is another tenant's.
 */
export async function seeFold(
  { log }: Pick<Deps, "log">,
  { stream, ...moment }: { stream: string } & Moment,
  { tenantId }: Viewer,
): Promise<ObservedData["fold"]> {
  const kind = stream.split("/", 1)[0] ?? "";
  if (!Object.hasOwn(folds, kind)) throw noStream(stream);
  const all = await log.read(stream);
  const owner = tenantIn(all);
  const isOthers = tenantId !== undefined && owner !== undefined && owner !== tenantId;
  if (all.length === 0 || isOthers) throw noStream(stream);
  const commits = all.filter((commit) => isThere(moment, commit));
  const last = commits.at(-1);
  return {
    stream,
    version: last?.version ?? 0,
    position: last?.position ?? null,
    at: last === undefined ? null : timeOfPosition(last.position),
    state: omitTexts({ ...folds[kind as keyof typeof folds](commits) }),
  };
}

function noStream(stream: string): AxonError {
  return new AxonError(
    "not_found",
    `There is no stream ${stream.slice(0, 100)}. Streams are turn/…, conversation/…, group/… and rollout/….`,
    { field: "stream" },
  );
}
