/**
 * When an objective is in danger: multiwindow, multi-burn-rate alerts. A burn rate of 1 uses up the budget of bad
 * events (1 - the objective's share) in just the 30 days that it is for. Each alert wants the rate to be exceeded
 * over a long window, so that it matters, and over one of a twelfth of that, so that it stops soon after the
 * cause does.
 * Source: B. Beyer et al., The Site Reliability Workbook, chapter 5 "Alerting on SLOs", table 5-8,
 * https://sre.google/workbook/alerting-on-slos/
 */
export interface BurnRate {
  /** Somebody is woken by a page; a ticket waits for the day. */
  severity: "page" | "ticket";
  longMinutes: number;
  shortMinutes: number;
  factor: number;
}

const pages: readonly BurnRate[] = [
  // 2 % of the budget in an hour.
  { severity: "page", longMinutes: 60, shortMinutes: 5, factor: 14.4 },
  // 5 % of it in six.
  { severity: "page", longMinutes: 360, shortMinutes: 30, factor: 6 },
];

/** As in the book: the ticket is for 10 % of the budget in three days. */
export const burnRates: readonly BurnRate[] = [
  ...pages,
  { severity: "ticket", longMinutes: 3 * 1_440, shortMinutes: 360, factor: 1 },
];

/** CloudWatch looks back a day at most in one period: 10 % of the budget within that. */
export const dayBurnRates: readonly BurnRate[] = [
  ...pages,
  { severity: "ticket", longMinutes: 1_440, shortMinutes: 120, factor: 3 },
];

/** So few bad events wake nobody, whatever share of little traffic they are. */
export const fewestBad = 3;
