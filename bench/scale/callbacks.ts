import { callBudget } from "../../dataplane/relay/call-budget.ts";
import type { Random } from "../../test/simulation/random.ts";
import { VirtualTime } from "../../test/simulation/virtual-time.ts";
import { quantile } from "../statistics.ts";
import { callbackBudget, people } from "./assumptions.ts";

/**
 * Answers on their way through API Gateway's callback API, event by event on virtual time, with the
 * relay's own budget. A turn has one call under way at most; what its engine says meanwhile goes with the
 * next. Turns come by a Poisson process, and their lengths are exponentially distributed; so what is left of
 * those that run at the beginning is, too.
 */
export interface CallbackResult {
  connections: number;
  running: number;
  framesPerSecond: number;
  /** Of the budget. */
  used: number;
  tokensPerFrame: number;
  /** Between two frames of one turn, ms. */
  betweenFramesMs: { p50: number; p99: number };
}

const callMs = 15;
/** Until the budget's line is as long as it will be. */
const settleMs = 5_000;
const measuredMs = 10_000;
const tokenMs = 1_000 / people.tokensPerSecond;

export function simulateCallbacks(connections: number, random: Random): CallbackResult {
  const time = new VirtualTime();
  const start = time.now;
  let waitMs = 0;
  // The budget says how long to wait by calling `wait`, at once: the rest of its promise is not needed.
  const budget = callBudget(callbackBudget, {
    now: () => time.now,
    wait: async (ms) => {
      waitMs = ms;
    },
  });
  const gaps: number[] = [];
  let [frames, tokens, running, runningSum, samples] = [0, 0, 0, 0, 0];
  const isMeasured = () => time.now - start >= settleMs;

  function begin(): void {
    const bornAt = time.now;
    const length = Math.max(1, Math.round(exponential(random, people.answerTokens)));
    let [sent, lastAt] = [0, bornAt];
    running++;
    const call = (): void => {
      waitMs = 0;
      void budget.take();
      time.after(waitMs, () => {
        const said = Math.min(length, Math.floor((time.now - bornAt) / tokenMs + 1e-6) + 1);
        if (isMeasured()) {
          frames++;
          tokens += said - sent;
          if (sent > 0) gaps.push(time.now - lastAt);
        }
        [sent, lastAt] = [said, time.now];
        if (sent === length) running--;
        // The next call starts when this one is back and there is something to say.
        else time.after(Math.max(callMs, bornAt + sent * tokenMs - time.now), call);
      });
    };
    call();
  }

  const arrivalMs = (people.secondsBetweenPrompts * 1_000) / connections;
  const arrive = (): void => {
    begin();
    time.after(exponential(random, arrivalMs), arrive);
  };
  const sample = (): void => {
    if (isMeasured()) [runningSum, samples] = [runningSum + running, samples + 1];
    time.after(100, sample);
  };
  const runningAtStart = (people.answerTokens * tokenMs) / arrivalMs;
  for (let i = 0; i < runningAtStart; i++) time.after(random.next() * tokenMs, begin);
  time.after(exponential(random, arrivalMs), arrive);
  sample();
  while (time.now - start < settleMs + measuredMs) time.step();
  const framesPerSecond = (frames / measuredMs) * 1_000;
  return {
    ...{ connections, running: runningSum / samples, framesPerSecond },
    used: framesPerSecond / callbackBudget,
    tokensPerFrame: tokens / frames,
    betweenFramesMs: { p50: quantile(gaps, 0.5), p99: quantile(gaps, 0.99) },
  };
}

const exponential = (random: Random, mean: number): number => -Math.log(1 - random.next()) * mean;
