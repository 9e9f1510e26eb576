import { isProduction, nameOf } from "./stage.ts";

export type Key = ReturnType<typeof key>;

/**
 * The key for what has no key of AWS's own that would do: the log groups, the topic of the alarms (a
 * service must be let in to publish there), the secrets of Kubernetes, and the table of data keys (its readers
 * need a right to this key as well). The event log, the queues, the bucket, Redis and PostgreSQL are encrypted by
 * their services' keys, which cost nothing and which nobody can lock themselves out of.
 *
 * In production it outlives `sst remove`, as that table does: without it no word in the log could be read.
 */
export function key() {
  const account = aws.getCallerIdentityOutput().accountId;
  const region = aws.getRegionOutput().region;
  const partition = aws.getPartitionOutput().partition;
  const policy = aws.iam.getPolicyDocumentOutput({
    statements: [
      {
        sid: "AccountDecidesByIam",
        principals: [
          { type: "AWS", identifiers: [$interpolate`arn:${partition}:iam::${account}:root`] },
        ],
        actions: ["kms:*"],
        resources: ["*"],
      },
      {
        sid: "LogGroups",
        principals: [
          { type: "Service", identifiers: [$interpolate`logs.${region}.amazonaws.com`] },
        ],
        actions: [
          "kms:Encrypt",
          "kms:Decrypt",
          "kms:ReEncrypt*",
          "kms:GenerateDataKey*",
          "kms:Describe*",
        ],
        resources: ["*"],
        conditions: [
          {
            test: "ArnLike",
            variable: "kms:EncryptionContext:aws:logs:arn",
            values: [$interpolate`arn:${partition}:logs:${region}:${account}:log-group:*`],
          },
        ],
      },
      {
        sid: "AlarmsReachTheirTopic",
        principals: [{ type: "Service", identifiers: ["cloudwatch.amazonaws.com"] }],
        actions: ["kms:Decrypt", "kms:GenerateDataKey*"],
        resources: ["*"],
        conditions: [{ test: "StringEquals", variable: "aws:SourceAccount", values: [account] }],
      },
    ],
  }).json;
  const made = new aws.kms.Key(
    "Key",
    {
      description: nameOf("logs, alarms, data keys and Kubernetes secrets"),
      enableKeyRotation: true,
      deletionWindowInDays: 30,
      policy,
    },
    { retainOnDelete: isProduction() },
  );
  new aws.kms.Alias("KeyAlias", { name: `alias/${nameOf("key")}`, targetKeyId: made.keyId });
  return made;
}
