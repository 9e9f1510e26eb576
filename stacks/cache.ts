import { footprint } from "../cluster/plan/cost.ts";
import type { Alarm } from "./alarms.ts";
import type { Network } from "./network.ts";
import { isProduction } from "./stage.ts";

export type Cache = ReturnType<typeof cache>;

/**
 * Redis (Valkey) for token streams, leases, admission and connections. It is in cluster mode, so that it
 * grows by shards: all keys that a script touches share a hash tag (events/redis-keys.ts). Traffic is
 * encrypted and needs the password; what is kept on disk (a snapshot) is encrypted too.
 */
export function cache({ vpc, groups }: Network, alarm: Alarm) {
  const redis = new sst.aws.Redis("Redis", {
    engine: "valkey",
    version: "7.2",
    instance: isProduction() ? footprint.cacheNode.replace("cache.", "") : "t4g.small",
    cluster: { nodes: 1 },
    // Each key that may go has a lifetime of its own. A full Redis must fail loudly: evicting a token
    // stream or a lease would lose what somebody is reading.
    parameters: { "maxmemory-policy": "noeviction" },
    vpc: { subnets: vpc.privateSubnets, securityGroups: [groups.cache.id] },
    transform: {
      cluster: {
        replicasPerNodeGroup: isProduction() ? footprint.cacheNodes - 1 : 0,
        multiAzEnabled: isProduction(),
        snapshotRetentionLimit: isProduction() ? 1 : 0,
      },
    },
  });
  redis.nodes.cluster.memberClusters.apply((members) => {
    for (const [i, CacheClusterId] of members.entries())
      watch(`Redis${i + 1}`, CacheClusterId, alarm);
  });
  /** As the processes of the data plane take it: each of them holds it as a secret. */
  const url = $resolve([redis.username, redis.password, redis.host, redis.port]).apply(
    ([username, password, host, port]) =>
      `rediss+cluster://${username}:${encodeURIComponent(password ?? "")}@${host}:${port}`,
  );
  return { redis, url };
}

function watch(name: string, CacheClusterId: string, alarm: Alarm): void {
  alarm(`${name}Memory`, {
    ...{ service: "ElastiCache", metric: "DatabaseMemoryUsagePercentage", statistic: "Maximum" },
    dimensions: { CacheClusterId },
    ...{ threshold: 70, minutes: 5 },
    description: "Redis fills up; at 100 % it refuses tokens. Take larger nodes or more shards.",
  });
  alarm(`${name}Processor`, {
    ...{ service: "ElastiCache", metric: "EngineCPUUtilization", statistic: "Average" },
    dimensions: { CacheClusterId },
    ...{ threshold: 80, minutes: 5 },
    description: "Redis has one thread, and it is busy: every token waits for it. Add shards.",
  });
}
