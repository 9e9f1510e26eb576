/** Signs of faults that pass by themselves, which both planes meet. What follows from one is each plane's own. */

/** Codes of the system that tell of a passing fault of the network. */
export const networkCodes: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
]);

/** What Redis answers while it starts, fails over or moves slots. */
export const redisNotReady =
  /^(LOADING|READONLY|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|UNBLOCKED)/;
