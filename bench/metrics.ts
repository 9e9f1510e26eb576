import { leaderMeter } from "../dataplane/metrics/leader-meter.ts";
import { relayMeter } from "../dataplane/metrics/relay-meter.ts";

/**
 * What counting costs: by the token in a leader and in a relay, and by the scrape. `npm run bench:metrics`
 */

const leader = leaderMeter({ model: "llama-3-70b", revision: "llama-3-70b-1", group: "g-0" });
const relay = relayMeter();
const said = leader.pace();

/** All that a leader counts of one token, where each has a pipeline of its own: at most that. */
function leaderToken(): void {
  said();
  leader.appends.ok.add();
  leader.appendDuration.observe(0.0007);
  leader.generatedTokens.add(1);
}

/** All that a relay counts of one token, where each has a frame of its own. */
function relayToken(): void {
  const heardAt = relay.clock();
  relay.frames.tokens.add();
  relay.tokens.add(1);
  relay.deliveryLatency.observe((relay.clock() - heardAt) / 1_000);
}

/** @returns the best of several rounds, ns a call; others of this machine only make it slower */
function nanoseconds(task: () => unknown, calls: number): number {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 7; round++) {
    const beganAt = performance.now();
    for (let i = 0; i < calls; i++) task();
    best = Math.min(best, ((performance.now() - beganAt) * 1e6) / calls);
  }
  return best;
}

const rows = [
  ["a token in the leader", nanoseconds(leaderToken, 200_000)],
  ["a token in the relay", nanoseconds(relayToken, 200_000)],
  ["a scrape of the leader", nanoseconds(() => leader.registry.exposition(), 200)],
] as const;
for (const [name, ns] of rows) console.log(`${name.padEnd(24)} ${ns.toFixed(0).padStart(8)} ns`);
