import { grouped } from "../../cluster/plan/amounts.ts";
import {
  busiest,
  busiestGroup,
  callbackBudget,
  measured,
  quotas,
  redis,
  turn,
} from "./assumptions.ts";
import { type Demand, demandOf, groupTurnsPerSecond } from "./demand.ts";

/** What cluster/deployment.ts takes. */
const mostGroups = 64;

/** A bound, the connections at which it is reached, and what to do then. */
export interface Limit {
  what: string;
  limit: string;
  connections: number;
  remedy: string;
}

const fromClients = ({ newConnections, turns, pings }: Demand) => newConnections + turns + pings;

/** So much of what the connections demand, and no more. Each demand grows with the connections. */
const bounds: readonly (Omit<Limit, "connections"> & {
  most: number;
  of: (demand: Demand) => number;
})[] = [
  {
    what: "callbacks, a frame for each token",
    limit: `${grouped(callbackBudget)} of 10,000/s`,
    most: callbackBudget,
    of: ({ tokens }) => tokens,
    remedy: "none is needed: frames widen",
  },
  {
    what: "callbacks, frames of 100 ms",
    limit: `${grouped(callbackBudget)} of 10,000/s`,
    most: callbackBudget,
    of: ({ frames }) => frames,
    remedy: "the relays' own door; or a higher quota",
  },
  {
    what: "reports queue, FIFO",
    limit: `${quotas.fifoCallsPerSecond} calls/s`,
    most: quotas.fifoCallsPerSecond,
    of: ({ reports }) => reports,
    remedy: "high throughput FIFO: its groups are turns",
  },
  {
    what: "one shard of Redis, appends",
    limit: `${busiest * 100} % of ${grouped(measured.redisAppendsPerSecond)}/s`,
    most: measured.redisAppendsPerSecond * busiest,
    of: ({ redisAppends }) => redisAppends,
    remedy: "more shards: all keys of a turn are on one",
  },
  {
    what: "one shard of Redis, memory",
    limit: `${(redis.nodeBytes / 1e9).toFixed(1)} GB`,
    most: redis.nodeBytes,
    of: ({ redisBytes }) => redisBytes,
    remedy: "more shards; or ended turns for less than an hour",
  },
  {
    what: "a new table's writes",
    limit: `${grouped(quotas.newTableWritesPerSecond)} units/s`,
    most: quotas.newTableWritesPerSecond,
    of: ({ writeUnits }) => writeUnits / turn.copies,
    remedy: "warm throughput, or growing into it: it doubles by itself",
  },
  {
    what: "one key of the log's index",
    limit: `${grouped(quotas.partitionWritesPerSecond)} units/s`,
    most: quotas.partitionWritesPerSecond,
    of: ({ indexWriteUnits }) => indexWriteUnits,
    remedy: "more log shards (events/event-log.ts)",
  },
  {
    what: "requests of clients beside callbacks",
    limit: `${grouped(quotas.requestsPerSecond - callbackBudget)} of 10,000/s`,
    most: quotas.requestsPerSecond - callbackBudget,
    of: fromClients,
    remedy: "the relays' own door; or a higher quota",
  },
  {
    what: "new connections",
    limit: `${quotas.newConnectionsPerSecond}/s`,
    most: quotas.newConnectionsPerSecond,
    of: ({ newConnections }) => newConnections,
    remedy: "the relays' own door; or a higher quota",
  },
  {
    what: "Lambda at a time",
    limit: `${grouped(quotas.lambdaConcurrency)}`,
    most: quotas.lambdaConcurrency,
    of: ({ lambdaConcurrency }) => lambdaConcurrency,
    remedy: "a higher quota",
  },
  {
    what: "groups of one revision",
    limit: `${mostGroups} groups`,
    most: mostGroups,
    of: ({ turns }) => turns / (groupTurnsPerSecond() * busiestGroup),
    remedy: "faster groups; or a higher bound (cluster/deployment.ts)",
  },
];

/** In the order in which a deployment that grows meets them. */
export function limitsInOrder(): Limit[] {
  const demand = demandOf(1_000_000);
  return bounds
    .map(({ what, limit, remedy, most, of }) => {
      const connections = (most / of(demand)) * demand.connections;
      return { what, limit, connections, remedy };
    })
    .sort((a, b) => a.connections - b.connections);
}
