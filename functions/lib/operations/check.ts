import * as z from "zod";
import { relaysKey } from "../../../events/redis-keys.ts";
import { isOutage } from "../failures.ts";
import { failureForLog } from "../request-log.ts";
import { managedModels } from "../rollout/managed-models.ts";
import { readPast } from "../rollout/rollout-past.ts";
import type { OperatorDeps } from "./operator.ts";
import { seeGroups } from "./see-groups.ts";
import { knownQueues, queueFacts } from "./see-queues.ts";

/** Whether one thing is as it should be. */
export interface Check {
  name: string;
  isWell: boolean;
  /** What was seen. */
  seen: string;
  /** What to do about it; null where nothing is to be done. */
  advice: string | null;
}

/** What a check finds; without advice all is well. */
interface Finding {
  seen: string;
  advice?: string | undefined;
}

type Looking = [name: string, advice: string, look: () => Promise<Finding>];

/** Looks at everything that turns need, each by itself: what is away keeps nothing else from being seen. */
export async function checkAll(deps: OperatorDeps): Promise<Check[]> {
  const checks: Looking[] = [
    ["redis", "Start it again; leaders keep their tokens meanwhile.", () => redisAnswers(deps)],
    [
      "postgresql",
      "Start it again: history is not seen, and the log is kept.",
      () => databaseAnswers(deps),
    ],
    [
      "event log",
      "See the table's alarms and the rights of the functions.",
      () => logAnswers(deps),
    ],
    ...knownQueues(deps).map((queue): Looking => {
      const advice = "See whether SQS answers, and the functions' rights.";
      return [`queue ${queue.name}`, advice, () => queueIsWell(deps, queue)];
    }),
    ["relays", "See the stores above: relays are known by them.", () => relaysLive(deps)],
    ["groups", "See the stores above: groups are known by them.", () => groupsServe(deps)],
    ["turns", "See the stores above.", () => turnsMove(deps)],
  ];
  return Promise.all(
    checks.map(async ([name, advice, look]): Promise<Check> => {
      try {
        const found = await look();
        const isWell = found.advice === undefined;
        return { name, isWell, seen: found.seen, advice: found.advice ?? null };
      } catch (error) {
        const { name: kind, message } = failureForLog(error);
        const why = isOutage(error) ? "what it asks does not answer" : String(message);
        return { name, isWell: false, seen: `${why} (${String(kind)})`, advice };
      }
    }),
  );
}

async function timed(what: string, call: () => Promise<unknown>): Promise<Finding> {
  const began = performance.now();
  await call();
  return { seen: `${what} in ${Math.max(1, Math.round(performance.now() - began))} ms` };
}

const redisAnswers = ({ redis }: OperatorDeps) => timed("answers", () => redis.ping());

const databaseAnswers = ({ database }: OperatorDeps) =>
  timed("answers", () => database.query("SELECT 1 FROM turns LIMIT 1"));

const logAnswers = ({ log }: OperatorDeps) => timed("reads", () => log.readShardBack(0, "", 1));

async function queueIsWell(
  { sqs }: OperatorDeps,
  queue: ReturnType<typeof knownQueues>[number],
): Promise<Finding> {
  const facts = await queueFacts(sqs, queue);
  if (facts === undefined) {
    const advice = "It is made with the revision's first group: start one, or retire the revision.";
    // A revision that nobody has rolled out yet has none.
    return queue.kind === "jobs" ? { seen: "not made yet" } : { seen: "is not there", advice };
  }
  const seen = `${facts.waiting} waiting, ${facts.inFlight} in flight`;
  const { deadLetterUrl: url } = facts;
  const dead = url === undefined ? undefined : await queueFacts(sqs, { ...queue, url });
  const letters = dead === undefined ? 0 : dead.waiting + dead.inFlight;
  if (letters === 0) return { seen };
  return {
    seen: `${seen}, ${letters} dead letters`,
    advice:
      "See them with `axon jobs dlq`; try them again with --redrive once the reason is mended.",
  };
}

/** As long as a relay counts as living. */
const relaySilentMs = 5_000;

async function relaysLive({ redis, now }: OperatorDeps): Promise<Finding> {
  const living = await redis.zcount(relaysKey, now() - relaySilentMs, "+inf");
  if (living > 0) return { seen: `${living} live` };
  return { seen: "none lives", advice: "Start a relay: nobody carries tokens to the connections." };
}

async function groupsServe(deps: OperatorDeps): Promise<Finding> {
  const [groups, models] = await Promise.all([seeGroups(deps), managedModels(deps)]);
  const pasts = await Promise.all(models.map((model) => readPast(deps, model, {})));
  const weighted = pasts.flatMap(({ state }) => state.weights.map(({ revision }) => revision));
  const serving = (revision: string) =>
    groups.some((group) => group.revision === revision && group.isAccepting);
  const idle = weighted.filter((revision) => !serving(revision));
  const silent = groups.filter(({ status }) => status === "silent").map(({ groupId }) => groupId);
  const ready = groups.filter(({ isAccepting }) => isAccepting).length;
  const seen = `${ready} of ${groups.length} take turns`;
  if (idle.length > 0) {
    return {
      seen: `${seen}; none of ${idle.join(", ")}`,
      advice:
        "See why with `axon groups` and the groups' logs; `axon rollout status` says what is under way.",
    };
  }
  if (silent.length === 0) return { seen };
  return {
    seen: `${seen}; silent: ${silent.join(", ")}`,
    advice: "They are started again by themselves; if they stay so, see their logs.",
  };
}

const countsSchema = z.tuple([z.object({ open: z.int(), stuck: z.int() })]);

/** A turn that waits for longer for a leader is stuck. */
const stuckMs = 60_000;

async function turnsMove({ database, now }: OperatorDeps): Promise<Finding> {
  const { rows } = await database.query(
    `SELECT count(*)::int AS open, count(*) FILTER (WHERE status = 'requested' AND requested_at < $1)::int AS stuck
     FROM turns WHERE status IN ('requested', 'running')`,
    [new Date(now() - stuckMs)],
  );
  const [{ open, stuck }] = countsSchema.parse(rows);
  if (stuck === 0) return { seen: `${open} open` };
  return {
    seen: `${open} open, ${stuck} of them wait for a leader for more than a minute`,
    advice: "See which with `axon turns --status open`, and `axon turn ID` for what it waits for.",
  };
}
