import { type Commit, type EventLog, logShards, shardOf } from "../../../events/event-log.ts";
import { timeOfPosition } from "../../../events/ids.ts";
import type { ObservedData, SeenCommit, ViewQuestion } from "../../../events/views.ts";
import type { Deps } from "../deps.ts";
import { omitTexts } from "./omit-texts.ts";
import type { Viewer } from "./operator.ts";
import { tenantIn, visibleTo } from "./tenants.ts";

type LogQuestion = Extract<ViewQuestion, { view: "log" }>;
type LogDeps = Pick<Deps, "log" | "database">;

/** Of one shard at a time: commits may be large, and the function's memory holds a page of each. */
const pageSize = 50;
/** Commits that are looked at for one answer. A rare type is found by going on from `next`. */
const mostScanned = 1_000;
/** What the commits of one answer may take: an answer over the WebSocket has at most 128 KB. */
const mostBytes = 96 * 1024;

/**
 * A page of the log, of all shards together: newest first, or with `after` oldest first. `next` goes on where
 * the look has ended, which may be before anything was found.
 */
export async function seeLog(
  deps: LogDeps,
  question: LogQuestion,
  { tenantId }: Viewer,
): Promise<ObservedData["log"]> {
  const [found, range] = await Promise.all([
    commitsFor(deps, question, tenantId),
    rangeOf(deps.log),
  ]);
  return { ...found, range };
}

async function commitsFor(deps: LogDeps, question: LogQuestion, tenantId: string | undefined) {
  const { stream } = question;
  const whole = stream === undefined ? [] : await deps.log.read(stream);
  const isForward = question.after !== undefined;
  const pages =
    whole.length > 0 ? wholeStream(whole, question) : mergedPages(deps.log, question, isForward);
  const commits: SeenCommit[] = [];
  let [scanned, bytes] = [0, 0];
  let last: string | null = null;
  for await (const page of pages) {
    const matching = page.filter((commit) => matches(question, commit));
    const owner = whole.length > 0 ? tenantIn(whole) : undefined;
    const visible =
      tenantId === undefined || (owner !== undefined && owner === tenantId)
        ? matching
        : await visibleTo(deps, tenantId, matching);
    const shown = new Set(visible);
    for (const commit of page) {
      const entry = shown.has(commit) ? seen(commit) : undefined;
      if (entry !== undefined) {
        bytes += Buffer.byteLength(JSON.stringify(entry));
        if (bytes > mostBytes && commits.length > 0) return { commits, next: last };
        commits.push(entry);
      }
      last = commit.position;
      if (commits.length === question.limit) return { commits, next: last };
    }
    scanned += page.length;
    if (scanned >= mostScanned) return { commits, next: last };
  }
  return { commits, next: null };
}

function matches({ stream, type }: LogQuestion, commit: Commit): boolean {
  if (stream !== undefined && !commit.stream.startsWith(stream)) return false;
  return type === undefined || commit.events.some((event) => event.type === type);
}

function seen({ stream, version, position, events }: Commit): SeenCommit {
  return {
    ...{ stream, version, position },
    at: timeOfPosition(position),
    events: events.map((event) => omitTexts({ ...event })),
  };
}

function* wholeStream(commits: readonly Commit[], { after, before }: LogQuestion) {
  if (after !== undefined) yield commits.filter(({ position }) => position > after);
  else yield commits.filter(({ position }) => before === undefined || position < before).reverse();
}

/** The shards' commits in one order, a page at a time: what is older than the end of any shard's page waits. */
async function* mergedPages(
  log: EventLog,
  { after = "", before = "" }: LogQuestion,
  isForward: boolean,
): AsyncGenerator<Commit[]> {
  const start = isForward ? after : before;
  const cursors = Array.from({ length: logShards }, () => start);
  const isDone = cursors.map(() => false);
  let waiting: Commit[] = [];
  const isEarlier = (one: string, other: string) => (isForward ? one < other : one > other);
  while (isDone.includes(false)) {
    await Promise.all(
      cursors.map(async (cursor, shard) => {
        const hasSome = waiting.some((commit) => shardOf(commit.stream) === shard);
        if (isDone[shard] || hasSome) return;
        const page = isForward
          ? await log.readShard(shard, cursor, pageSize)
          : await log.readShardBack(shard, cursor, pageSize);
        waiting.push(...page);
        cursors[shard] = page.at(-1)?.position ?? cursor;
        isDone[shard] = page.length < pageSize;
      }),
    );
    // Up to the first end of a page behind which there may be more.
    const ends = cursors.filter((_, shard) => !isDone[shard]);
    const isSure = ({ position }: Commit) => ends.every((end) => !isEarlier(end, position));
    const sure = waiting.filter(isSure);
    waiting = waiting.filter((commit) => !isSure(commit));
    yield sure.sort((one, other) => (isEarlier(one.position, other.position) ? -1 : 1));
  }
}

async function rangeOf(log: EventLog): Promise<ObservedData["log"]["range"]> {
  const shards = Array.from({ length: logShards }, (_, shard) => shard);
  const [firsts, lasts] = await Promise.all([
    Promise.all(shards.map((shard) => log.readShard(shard, "", 1))),
    Promise.all(shards.map((shard) => log.readShardBack(shard, "", 1))),
  ]);
  const positions = (ends: Commit[][]) =>
    ends
      .flat()
      .map(({ position }) => position)
      .sort();
  const end = (position: string | undefined) =>
    position === undefined ? null : { position, at: timeOfPosition(position) };
  return { first: end(positions(firsts)[0]), last: end(positions(lasts).at(-1)) };
}
