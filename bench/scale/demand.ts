import { throughputOf } from "../../cluster/plan/speed.ts";
import { logShards } from "../../events/event-log.ts";
import {
  busiest,
  busiestGroup,
  exampleRevision,
  framesPerSecond,
  handlers,
  instanceOf,
  measured,
  people,
  pingSeconds,
  quotas,
  redis,
  turn,
} from "./assumptions.ts";

/** What so many connections ask for, at the busiest time: sums, each a second unless it says otherwise. */
export interface Demand {
  connections: number;
  turns: number;
  /** At a time (Little, 1961): turns a second, times how long one lasts. */
  running: number;
  tokens: number;
  newConnections: number;
  /** Prompts that find their connection closed as idle, where nobody pings. */
  reopened: number;
  pings: number;
  frames: number;
  commits: number;
  writeUnits: number;
  /** On one key of the log's index. */
  indexWriteUnits: number;
  reports: number;
  sqsCalls: number;
  invocations: number;
  lambdaConcurrency: number;
  lambdaGigabytes: number;
  redisAppends: number;
  redisBytes: number;
  redisShards: number;
  relays: number;
  groups: number;
}

export function demandOf(connections: number): Demand {
  const turns = connections / people.secondsBetweenPrompts;
  const running = turns * (people.answerTokens / people.tokensPerSecond);
  const tokens = turns * people.answerTokens;
  const newConnections = connections / meanConnectionSeconds();
  const commits = turns * turn.commits;
  const writeUnits = turns * turn.writeUnits * turn.copies;
  const reports = turns * turn.reports;
  const redisBytes =
    turns * redis.endedSeconds * measured.redisBytesPerTurn +
    connections * redis.bytesPerConnection;
  const redisShards = Math.max(
    tokens / (measured.redisAppendsPerSecond * busiest),
    redisBytes / redis.nodeBytes,
  );
  const relays = Math.max(
    tokens / (measured.relayTokensPerSecond * busiest),
    connections / measured.relayConnections,
  );
  return {
    ...{ connections, turns, running, tokens, newConnections, commits, writeUnits, reports },
    reopened: turns * Math.exp(-quotas.idleSeconds / people.secondsBetweenPrompts),
    pings: connections / pingSeconds,
    frames: running * framesPerSecond,
    indexWriteUnits: writeUnits / turn.copies / logShards,
    sqsCalls: sqsCalls(turns, running, reports),
    ...lambda({ newConnections, turns, commits, reports }),
    ...{ redisAppends: tokens, redisBytes, redisShards: Math.ceil(redisShards) },
    relays: Math.max(2, Math.ceil(relays)),
    groups: Math.ceil(turns / (groupTurnsPerSecond() * busiestGroup)),
  };
}

/** Of pages that close and of API Gateway's limit, whichever comes first. */
function meanConnectionSeconds(): number {
  const { sessionSeconds } = people;
  return sessionSeconds * (1 - Math.exp(-quotas.connectionSeconds / sessionSeconds));
}

/** Jobs and reports are sent one by one, received and deleted by tens; running jobs are kept each 2 s. */
function sqsCalls(turns: number, running: number, reports: number): number {
  const byTens = (2 * (turns + reports)) / 10 + running / 2 / 10;
  return turns + reports + byTens;
}

/** A busy source fills its batches. */
function lambda(rates: {
  newConnections: number;
  turns: number;
  commits: number;
  reports: number;
}): Pick<Demand, "invocations" | "lambdaConcurrency" | "lambdaGigabytes"> {
  const batches = (rate: number) => rate / Math.min(handlers.mostOfBatch, Math.max(1, rate));
  const { newConnections, turns, commits, reports } = rates;
  const sources: [number, number][] = [
    [newConnections, handlers.connect],
    [newConnections, handlers.disconnect],
    [turns, handlers.chat],
    [batches(reports), handlers.report],
    [batches(commits), handlers.dispatch],
    [batches(commits), handlers.project],
  ];
  const lambdaConcurrency = sources.reduce((sum, [rate, seconds]) => sum + rate * seconds, 0);
  return {
    invocations: sources.reduce((sum, [rate]) => sum + rate, 0),
    lambdaConcurrency,
    lambdaGigabytes: lambdaConcurrency * handlers.gigabytes,
  };
}

/** Of the example's group, with all slots busy. */
export function groupTurnsPerSecond(): number {
  const revision = exampleRevision();
  const throughput = throughputOf(revision, instanceOf(revision.instanceType), people);
  if (throughput === undefined) throw new Error("The example runs on GPUs.");
  return throughput.turnsPerSecond;
}
