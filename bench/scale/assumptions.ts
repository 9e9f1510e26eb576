import axonConfig from "../../axon.config.ts";
import type { Revision } from "../../cluster/deployment.ts";
import { findInstanceType, type InstanceType } from "../../cluster/plan/instances.ts";

/** What docs/SCALE.md takes for granted. Change a number here, and the tables follow. */

/** How people use it, at the busiest time. */
export const people = {
  /** From one prompt of a connection to its next, seconds. */
  secondsBetweenPrompts: 600,
  promptTokens: 1_000,
  answerTokens: 300,
  /** Of one answer: what a full group of the example says (`axon plan`). */
  tokensPerSecond: 25,
  /** A page is open for so long, on average; times are exponentially distributed. */
  sessionSeconds: 1_800,
  /** The average of day and week, over the busiest time. */
  meanShare: 0.4,
} as const;

/** AWS, as it is without asking for more: docs.aws.amazon.com, in each service's "Quotas". */
export const quotas = {
  newConnectionsPerSecond: 500,
  requestsPerSecond: 10_000,
  connectionSeconds: 7_200,
  idleSeconds: 600,
  lambdaConcurrency: 1_000,
  /** A FIFO queue without high throughput, each action. */
  fifoCallsPerSecond: 300,
  /** A new table on demand, and any one partition key's share of it. */
  newTableWritesPerSecond: 4_000,
  partitionWritesPerSecond: 1_000,
} as const;

/** Measured: docs/PERFORMANCE.md, and `npm run bench:scale -- --measure-redis`. */
export const measured = {
  /** Through the door of a relay, by one core. */
  relayTokensPerSecond: 34_000,
  /** The most that has been tried on one relay. */
  relayConnections: 10_000,
  redisAppendsPerSecond: 85_000,
  redisBytesPerTurn: 14_600,
} as const;

/** Nothing is planned to be busier than this. */
export const busiest = 0.6;
/** Groups: turns wait a little rather than GPUs. */
export const busiestGroup = 0.7;

export const redis = {
  /** cache.r7g.large, less a quarter that ElastiCache keeps for itself. */
  nodeBytes: 13.07 * 2 ** 30 * 0.75,
  /** A primary and its replica. */
  nodesOfShard: 2,
  /** A turn that has ended stays for an hour (docs/PROTOCOL.md). */
  endedSeconds: 3_600,
  /** Its hash and the set of its turns. */
  bytesPerConnection: 600,
} as const;

/** How long a handler runs, seconds, with memory of half a GB: assumed, from what they call. */
export const handlers = {
  connect: 0.03,
  chat: 0.08,
  ping: 0.01,
  disconnect: 0.015,
  /** Of a batch. */
  report: 0.06,
  /** At worst: it gives `chat` a second to send the job itself. */
  dispatch: 1,
  project: 0.1,
  gigabytes: 0.5,
  mostOfBatch: 10,
} as const;

/** Of one turn. */
export const turn = {
  /** TurnAdded, TurnRequested, TurnStarted, TurnCompleted: one item each. */
  commits: 4,
  /** Write units of 1 KB: the request takes 2 with its prompt, the end 2 with its text, the others 1. */
  writeUnits: 6,
  /** The table and its index, which has all of an item. */
  copies: 2,
  logBytes: 4_000,
  databaseBytes: 3_000,
  /** Two reports; each is sent, received and deleted, the latter two by tens. */
  reports: 2,
} as const;

/** Frames of one answer a second: as wide as a relay makes them while its budget lasts (100 ms). */
export const framesPerSecond = 10;
export const frameBytes = 170;
/** Of the callback quota: the rest is for what clients send. */
export const callbackBudget = 8_000;
/** So that a connection to API Gateway is not closed as idle. Axon's own client does not do it. */
export const pingSeconds = 540;

/** The group of axon.config.ts. */
export function exampleRevision(): Revision {
  const revision = axonConfig.models[0]?.revisions[0];
  if (revision === undefined) throw new Error("axon.config.ts has a revision.");
  return revision;
}

export function instanceOf(name: string): InstanceType {
  const instance = findInstanceType(name);
  if (instance === undefined) throw new Error(`${name} is not in the table of instances.`);
  return instance;
}
