import type { Deployment, Revision } from "../deployment.ts";
import { findInstanceType } from "./instances.ts";
import { findPrice, hoursPerMonth, type Price } from "./prices.ts";

/**
 * What runs beside the groups from the first minute on, whether anybody asks or not. Used up by use
 * (messages, invocations, writes) is what docs/SCALE.md adds.
 */
export const footprint = {
  /** Relays and controllers, each node one of each zone's. */
  controlNode: "m7g.large",
  controlNodes: 2,
  /** One for each zone. */
  natGateways: 2,
  cacheNode: "cache.r7g.large",
  /** A primary and its replica. */
  cacheNodes: 2,
  database: "db.t4g.medium multi-AZ",
  databaseGigabytes: 50,
} as const;

/** Relays that share a node: each is one process on one core, and a node has two. */
const relaysOfNode = 2;

interface CostLine {
  what: string;
  /** Of one, a month; undefined where the price is not known. */
  usdEach: number | undefined;
  /** What that was reckoned from. */
  price: Price | undefined;
  /** With the least groups, and nobody asking. */
  idleCount: number;
  /** With all groups. */
  fullCount: number;
}

/** A sum, and what is missing from it. */
export interface CostSum {
  usd: number;
  /** Lines whose price is not known: the sum is without them. */
  unknown: string[];
}

export interface MonthlyCost {
  lines: CostLine[];
  idle: CostSum;
  full: CostSum;
}

export function monthlyCost(deployment: Deployment): MonthlyCost {
  const revisions = deployment.models.flatMap((model) => model.revisions);
  const lines = [
    ...revisions.map((revision) => groupLine(deployment, revision)),
    ...base(deployment),
  ];
  return {
    lines,
    idle: sumOf(lines, ({ idleCount }) => idleCount),
    full: sumOf(lines, ({ fullCount }) => fullCount),
  };
}

/** What is reserved is paid whether a group runs on it or not. */
function groupLine({ region, capacity }: Deployment, revision: Revision): CostLine {
  const { instanceType, nodes, groups } = revision;
  const hasGpus = findInstanceType(instanceType)?.gpus !== undefined;
  const isReserved = hasGpus && capacity.kind !== "on-demand";
  const isBlock = hasGpus && capacity.kind === "block";
  return {
    what: `${instanceType} of ${revision.revision}${isBlock ? ", capacity block" : ""}`,
    ...priced(region, isBlock ? `block ${instanceType}` : instanceType),
    idleCount: nodes * (isReserved ? groups.max : groups.min),
    fullCount: nodes * groups.max,
  };
}

function base({ region, relays }: Deployment): CostLine[] {
  const { controlNode, cacheNode, database, databaseGigabytes } = footprint;
  const controlNodes = Math.max(footprint.controlNodes, Math.ceil(relays.count / relaysOfNode));
  const line = (item: string, count: number, what = item): CostLine => ({
    ...{ what, ...priced(region, item), idleCount: count, fullCount: count },
  });
  return [
    line("EKS cluster", 1),
    line(controlNode, controlNodes, `${controlNode} for relays and controllers`),
    line("NAT gateway", footprint.natGateways),
    ...(relays.frontDoor ? [line("network load balancer", 1)] : []),
    line(cacheNode, footprint.cacheNodes, `${cacheNode} (Valkey)`),
    line(database, 1, `${database} (PostgreSQL)`),
    line("RDS gp3 multi-AZ", databaseGigabytes, "database storage, GB"),
  ];
}

/** By the month; what is asked by the hour is asked for 730 of them. */
function priced(region: string, item: string): Pick<CostLine, "usdEach" | "price"> {
  const price = findPrice(region, item);
  if (price === undefined) return { usdEach: undefined, price };
  return { usdEach: price.usd * (price.per === "hour" ? hoursPerMonth : 1), price };
}

function sumOf(lines: readonly CostLine[], countOf: (line: CostLine) => number): CostSum {
  const counted = lines.filter((line) => countOf(line) > 0);
  return {
    usd: counted.reduce((sum, line) => sum + (line.usdEach ?? 0) * countOf(line), 0),
    unknown: counted.filter(({ usdEach }) => usdEach === undefined).map(({ what }) => what),
  };
}
