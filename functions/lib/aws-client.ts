/**
 * How AWS is called: with timeouts that leave a handler time to answer, and three attempts in all.
 * Without `throwOnRequestTimeout` a request that takes too long would only be warned about.
 */
export const awsClient = {
  maxAttempts: 3,
  requestHandler: { connectionTimeout: 1_000, requestTimeout: 5_000, throwOnRequestTimeout: true },
} as const;
