import type { Deployment } from "../cluster/deployment.ts";
import type { Key } from "./key.ts";
import { nameOf } from "./stage.ts";

export interface AlarmRule {
  /** What it means and what to do, for whoever is woken by it. */
  description: string;
  /** CloudWatch's namespace without `AWS/`. */
  service: "SQS" | "Lambda" | "ElastiCache" | "RDS" | "DynamoDB" | "ApiGateway";
  metric: string;
  dimensions: Record<string, $util.Input<string>>;
  statistic: "Maximum" | "Minimum" | "Average" | "Sum";
  /** It rings above this, or below it where `isFloor` says so. */
  threshold: number;
  isFloor?: boolean;
  /** For so many minutes in a row. */
  minutes: number;
}

export type Alarm = ReturnType<typeof alarms>["alarm"];
export type AlarmTopic = aws.sns.Topic;

/**
 * Who is told when something goes wrong that does not mend itself. The SST Console shows the errors of
 * handlers beside these: it finds the functions' log groups by itself.
 * @returns whom alarms tell, and what makes one alarm.
 */
export function alarms({ alarmEmail }: Deployment, key: Key) {
  const topic = new aws.sns.Topic("Alarms", { name: nameOf("alarms"), kmsMasterKeyId: key.arn });
  if (alarmEmail !== undefined) {
    new aws.sns.TopicSubscription("AlarmMail", {
      ...{ topic: topic.arn, protocol: "email", endpoint: alarmEmail },
    });
  }
  const alarm = (name: string, rule: AlarmRule) =>
    new aws.cloudwatch.MetricAlarm(`${name}Alarm`, {
      alarmDescription: rule.description,
      namespace: `AWS/${rule.service}`,
      metricName: rule.metric,
      dimensions: rule.dimensions,
      statistic: rule.statistic,
      comparisonOperator: rule.isFloor ? "LessThanThreshold" : "GreaterThanThreshold",
      threshold: rule.threshold,
      period: 60,
      evaluationPeriods: rule.minutes,
      // A queue without messages, or a function that nobody calls, reports nothing: all is well then.
      treatMissingData: "notBreaching",
      alarmActions: [topic.arn],
      okActions: [topic.arn],
    });
  return { alarm, topic };
}
