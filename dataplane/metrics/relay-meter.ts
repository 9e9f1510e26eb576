import { relayMetrics } from "../../events/metrics.ts";
import { classify } from "../errors.ts";
import type { Connections } from "../relay/connections.ts";
import { countProcess } from "./process-metrics.ts";
import { Registry } from "./registry.ts";

/** What a relay counts, as the leader does: numbers and times, of nobody in particular. */
export type RelayMeter = ReturnType<typeof relayMeter>;

export function relayMeter() {
  const registry = new Registry(relayMetrics);
  return {
    registry,
    frames: registry.counters("axon_relay_frames_total", "type"),
    tokens: registry.counter("axon_relay_tokens_total", {}),
    reads: registry.counters("axon_relay_stream_reads_total", "reason"),
    deliveryLatency: registry.histogram("axon_relay_delivery_latency_seconds", {}),
    window: registry.histogram("axon_relay_coalescing_window_seconds", {}),
    /** Milliseconds that never go back. */
    clock: () => performance.now(),
  };
}

/** The same connections, each call of which is counted and timed. */
export function meteredConnections(
  { registry, window, clock }: RelayMeter,
  door: "gateway" | "own",
  connections: Connections,
): Connections {
  const duration = registry.histogram("axon_relay_post_duration_seconds", { door });
  const results = {
    sent: registry.counter("axon_relay_posts_total", { door, result: "sent" }),
    gone: registry.counter("axon_relay_posts_total", { door, result: "gone" }),
    throttled: registry.counter("axon_relay_posts_total", { door, result: "throttled" }),
    retryable: registry.counter("axon_relay_posts_total", { door, result: "retryable" }),
    fatal: registry.counter("axon_relay_posts_total", { door, result: "fatal" }),
  };
  function settle(beganAt: number, result: keyof typeof results): void {
    duration.observe((clock() - beganAt) / 1_000);
    results[result].add();
  }
  return {
    ...(connections.ready !== undefined && {
      async ready(connectionId: string) {
        const beganAt = clock();
        await connections.ready?.(connectionId);
        window.observe((clock() - beganAt) / 1_000);
      },
    }),
    post(connectionId, frame) {
      const beganAt = clock();
      const posted = connections.post(connectionId, frame);
      if (typeof posted === "string") {
        settle(beganAt, posted);
        return posted;
      }
      return posted.then(
        (result) => {
          settle(beganAt, result);
          return result;
        },
        (error: unknown) => {
          settle(beganAt, classify(error));
          throw error;
        },
      );
    },
  };
}

/** The gauges of a relay, read when somebody asks. */
export function gaugeRelay(
  { registry }: RelayMeter,
  of: {
    relay: { shards(): readonly number[]; watched(): { turns: number; watchers: number } };
    connections: () => number;
  },
): () => void {
  registry.read("axon_relay_connections", {}, of.connections);
  registry.read("axon_relay_watched_turns", {}, () => of.relay.watched().turns);
  registry.read("axon_relay_watchers", {}, () => of.relay.watched().watchers);
  registry.read("axon_relay_shards", {}, () => of.relay.shards().length);
  return countProcess(registry);
}
