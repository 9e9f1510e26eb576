import type { Functions } from "./functions.ts";

/**
 * The clock. Each minute, which is as often as there is, the sweep looks for turns that fell through
 * everything else. A tick that fails is not repeated: the next one is near.
 */
export function schedule({ sweep }: Functions) {
  return new sst.aws.CronV2("Tick", {
    schedule: "rate(1 minute)",
    function: sweep.arn,
    retries: 0,
  });
}
