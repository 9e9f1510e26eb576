import { Cluster, Redis } from "ioredis";
import * as z from "zod";

/** One Redis server, or a cluster of them. In a cluster a command's keys share their hash tag, `{…}`. */
export type RedisClient = Redis | Cluster;

/** redis://, rediss:// (TLS), and either with +cluster: redis+cluster:// and rediss+cluster:// */
export const redisUrlSchema = z.url({ protocol: /^rediss?(\+cluster)?$/ });

interface Options {
  lazyConnect?: boolean;
  /** Ms. */
  connectTimeout?: number;
  /** A connection that is waited on and silent for so long, in ms, is broken. */
  socketTimeout?: number;
  /** After so many attempts to connect the commands that wait fail; null lets them wait for ever. */
  maxRetriesPerRequest: number | null;
  /** Ms until the next attempt. */
  retryStrategy?: (attempt: number) => number;
}

/**
 * A client of the Redis that a URL names. The host of a cluster's URL is any of its nodes, or the address
 * that stands for all of them (ElastiCache's configuration endpoint); the client asks it for the others.
 */
export function redisClient(url: string, options: Options): RedisClient {
  const isCluster = new URL(url).protocol.endsWith("+cluster:");
  const client = isCluster ? clusterClient(url, options) : new Redis(url, options);
  client.on("error", hideCommand);
  return client;
}

function clusterClient(url: string, options: Options): Cluster {
  const { lazyConnect = false, retryStrategy = defaultDelayMs, ...redisOptions } = options;
  const { protocol, hostname, port, username, password } = new URL(url);
  const entrance = { host: hostname, port: Number(port || 6379) };
  const login = {
    ...(username !== "" && { username: decodeURIComponent(username) }),
    ...(password !== "" && { password: decodeURIComponent(password) }),
    ...(protocol.startsWith("rediss") && { tls: {} }),
  };
  const mostAttempts = options.maxRetriesPerRequest ?? Number.POSITIVE_INFINITY;
  let gaveUp = false;
  const cluster = new Cluster([entrance], {
    lazyConnect,
    clusterRetryStrategy(attempt) {
      gaveUp = attempt > mostAttempts;
      return gaveUp ? null : retryStrategy(attempt);
    },
    // Names stay names: a node's certificate is for its name, not for its address.
    dnsLookup: (address, done) => done(null, address),
    redisOptions: { ...redisOptions, ...login },
  });
  // A client of a cluster that gives up rejects the commands that wait, as it shall, and all that come
  // later, too. So it begins anew, unless it was told to end.
  cluster.on("end", () => {
    if (!gaveUp) return;
    setTimeout(() => {
      if (cluster.status === "end") cluster.connect().catch(() => {});
    }, 500).unref();
  });
  doors.set(cluster, () => new Redis({ ...entrance, ...login, ...patient }));
  return cluster;
}

const defaultDelayMs = (attempt: number): number => Math.min(100 + 2 * attempt, 2_000);

/** A further connection to wherever the URL of a cluster leads. */
const doors = new WeakMap<Cluster, () => Redis>();
const patient = { maxRetriesPerRequest: null };

/**
 * A connection to subscribe with; its commands wait while Redis is away. Every node of a cluster hears what
 * is published at any of them, so it is one to wherever the URL leads: like one to a single server it comes
 * back by itself, subscribes anew, and then emits "ready", which a subscriber of `Cluster` does not.
 */
export function redisSubscriber(redis: RedisClient): Redis {
  const subscriber = redis instanceof Redis ? redis.duplicate(patient) : doors.get(redis)?.();
  if (subscriber === undefined) throw new TypeError("A cluster's client is made by redisClient().");
  subscriber.on("error", hideCommand);
  return subscriber;
}

/** The error of a refused login carries the command, and with it the password: it must not be logged. */
function hideCommand(error: Error & { command?: unknown; lastNodeError?: unknown }): void {
  delete error.command;
  delete error.lastNodeError;
}
