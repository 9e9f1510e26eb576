import { monitorEventLoopDelay } from "node:perf_hooks";
import type { processMetrics } from "../../events/metrics.ts";
import type { Registry } from "./registry.ts";

const resolutionMs = 10;

/** What every long-lived process tells of itself. @returns how to end the watch on the event loop. */
export function countProcess(registry: Registry<typeof processMetrics>): () => void {
  const delay = monitorEventLoopDelay({ resolution: resolutionMs });
  delay.enable();
  const startedAt = (performance.timeOrigin / 1_000).toFixed(3);
  registry.read("process_start_time_seconds", {}, () => Number(startedAt));
  registry.read("process_cpu_seconds_total", {}, () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
  registry.read("process_resident_memory_bytes", {}, () => process.memoryUsage.rss());
  registry.read("nodejs_eventloop_lag_p99_seconds", {}, () => {
    // What it measures is the time between two beats of a timer, of which one beat is no delay.
    const lag = delay.count === 0 ? 0 : delay.percentile(99) / 1e9 - resolutionMs / 1_000;
    delay.reset();
    return Math.max(0, lag);
  });
  return () => void delay.disable();
}
