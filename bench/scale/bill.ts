import { footprint } from "../../cluster/plan/cost.ts";
import { findPrice, hoursPerMonth } from "../../cluster/plan/prices.ts";
import { exampleRevision, frameBytes, people, redis, turn } from "./assumptions.ts";
import { type Demand, demandOf } from "./demand.ts";

/**
 * What a month costs, US dollars in us-east-1, on demand: what stands there is sized for the busiest
 * time, GPUs follow the load, and what is paid by use is the average.
 */
export interface Bill {
  connections: number;
  /** Tokens of answers in a month. */
  tokens: number;
  gpus: number;
  /** Connections through API Gateway, with the relays that call it; or to the relays themselves. */
  apiGateway: number;
  relays: number;
  lambda: number;
  queues: number;
  log: number;
  redis: number;
  postgresql: number;
  /** The cluster itself, NAT, and bytes to the internet. */
  network: number;
  /** All of it, with the relays' own door. */
  sum: number;
}

const region = "us-east-1";
const secondsPerMonth = hoursPerMonth * 3_600;
const million = 1e6;

function price(item: string): number {
  const known = findPrice(region, item);
  if (known === undefined) throw new Error(`${item} has no price.`);
  return known.usd;
}

const standing = (item: string, count = 1): number => price(item) * hoursPerMonth * count;

export function billOf(connections: number): Bill {
  const demand = demandOf(connections);
  /** So many in a month, of what is so many a second at the busiest time; priced by the million. */
  const used = (perSecond: number, item: string) =>
    ((perSecond * people.meanShare * secondsPerMonth) / million) * price(item);
  const turns = demand.turns * people.meanShare * secondsPerMonth;
  const gigabytes = (bytesPerTurn: number) => (turns * bytesPerTurn) / 1e9;
  const gpus = gpuCost(demand);
  const connectionMinutes = used(connections / 60, "WebSocket connection minutes");
  const fromClients = demand.newConnections + demand.turns + demand.pings;
  const parts = {
    gpus,
    lambda:
      used(demand.invocations, "Lambda requests") +
      used(demand.lambdaGigabytes, "Lambda arm64 GB-seconds"),
    // Jobs are on fair queues, at the same price.
    queues: used(demand.sqsCalls, "SQS FIFO requests"),
    log:
      used(demand.writeUnits, "DynamoDB writes") +
      gigabytes(turn.logBytes * turn.copies) * price("DynamoDB storage"),
    redis: standing(footprint.cacheNode, demand.redisShards * redis.nodesOfShard),
    postgresql:
      standing(databaseFor(connections)) +
      gigabytes(turn.databaseBytes) * price("RDS gp3 multi-AZ"),
    network:
      standing("EKS cluster") +
      standing("NAT gateway", footprint.natGateways) +
      gigabytes(bytesOut(demand)) * price("data to the internet"),
  };
  const apiGateway =
    connectionMinutes +
    used(fromClients + demand.frames, "WebSocket messages") +
    standing(footprint.controlNode, footprint.controlNodes);
  const relays = relayCost(demand);
  const sum = Object.values(parts).reduce((a, b) => a + b, relays);
  return { connections, tokens: turns * people.answerTokens, ...parts, apiGateway, relays, sum };
}

/** At least one group, and else as many as the average asks for. */
function gpuCost({ groups }: Demand): number {
  const { instanceType, nodes } = exampleRevision();
  return standing(instanceType, Math.max(1, Math.ceil(groups * people.meanShare)) * nodes);
}

/** Two relays on a node, one on each of its vCPUs, and a load balancer that ends TLS. */
function relayCost({ relays, connections, newConnections }: Demand): number {
  // Of TLS a capacity unit is 3,000 connections that are open, or 50 that are opened in a second.
  const units = Math.max(connections / 3_000, newConnections / 50) * people.meanShare;
  return (
    standing(footprint.controlNode, Math.max(footprint.controlNodes, Math.ceil(relays / 2))) +
    standing("network load balancer") +
    standing("NLCU", units)
  );
}

function databaseFor(connections: number): string {
  if (connections <= 10_000) return footprint.database;
  return connections <= 100_000 ? "db.r7g.large multi-AZ" : "db.r7g.2xlarge multi-AZ";
}

/** Of one turn, to the browser: its text, and what each frame has around it. */
function bytesOut({ frames, turns }: Demand): number {
  return people.answerTokens * 4 + (frames / turns) * frameBytes;
}
