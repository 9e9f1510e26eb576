/**
 * The clock: calls a function each minute, which is as often as there is. A tick that fails is not
 * repeated: the next one is near.
 */
export function schedule(name: string, { arn }: sst.aws.Function) {
  return new sst.aws.CronV2(name, {
    schedule: "rate(1 minute)",
    function: arn,
    retries: 0,
  });
}
