import { type BurnRate, dayBurnRates, fewestBad } from "../cluster/observability/burn-rates.ts";
import type { FunctionMetric } from "../events/function-metrics.ts";
import { objectives } from "../events/objectives.ts";
import type { AlarmTopic } from "./alarms.ts";
import type { Functions } from "./functions.ts";
import { metricsNamespace, nameOf } from "./stage.ts";

/** What is promised, and the metric of `report` whose average is the share of turns that were not so. */
const promised: readonly { name: string; metric: FunctionMetric; share: number; what: string }[] = [
  {
    ...{ name: "FirstToken", metric: "FirstTokenLate", share: objectives.firstToken.share },
    what: `First tokens take longer than ${objectives.firstToken.withinSeconds} s`,
  },
  {
    ...{ name: "InterToken", metric: "InterTokenLate", share: objectives.interToken.share },
    what: `Turns get a token in more than ${objectives.interToken.withinSeconds * 1_000} ms`,
  },
  {
    ...{ name: "Answered", metric: "TurnFailed", share: objectives.answered.share },
    what: "Turns fail",
  },
];

/**
 * Rings when an objective's budget of bad turns burns too fast, by the log, whatever becomes of groups and of
 * whoever scrapes them. CloudWatch compares periods of one length in one alarm, so a burn rate is two alarms that
 * tell nobody, one for each window, and one above them that asks for both.
 */
export function burnAlarms({ report }: Pick<Functions, "report">, topic: AlarmTopic): void {
  for (const objective of promised) {
    for (const severity of ["page", "ticket"] as const) {
      const pairs = dayBurnRates
        .filter((burn) => burn.severity === severity)
        .map((burn) => {
          const windows = [burn.longMinutes, burn.shortMinutes].map((minutes) =>
            windowAlarm(objective, burn, minutes, report.name),
          );
          return $interpolate`(ALARM("${windows[0]?.name}") AND ALARM("${windows[1]?.name}"))`;
        });
      const logical = `${objective.name}Burn${severity === "page" ? "Page" : "Ticket"}`;
      new aws.cloudwatch.CompositeAlarm(logical, {
        alarmName: nameOf(`${kebab(objective.name)}-burn-${severity}`),
        alarmDescription: `${severity}: ${objective.what}, more of them than the objective of ${objective.share * 100} % over 30 days allows for long. docs/OBSERVABILITY.md, "Alarms".`,
        alarmRule: $util.all(pairs).apply((all) => all.join(" OR ")),
        alarmActions: [topic.arn],
        okActions: [topic.arn],
      });
    }
  }
}

function windowAlarm(
  { name, metric, share, what }: (typeof promised)[number],
  { longMinutes, factor }: BurnRate,
  minutes: number,
  functionName: $util.Input<string>,
): aws.cloudwatch.MetricAlarm {
  const threshold = Number((factor * (1 - share)).toPrecision(6));
  const of = (id: string, stat: string) => ({
    id,
    metric: {
      ...{ namespace: metricsNamespace(), metricName: metric, stat, period: minutes * 60 },
      dimensions: { FunctionName: functionName },
    },
  });
  // Little traffic makes large shares: below so many bad turns in the long window nobody is woken.
  const fewest = minutes === longMinutes ? fewestBad : 1;
  return new aws.cloudwatch.MetricAlarm(`${name}Burn${factor}x${minutes}m`.replace(".", "_"), {
    name: nameOf(`${kebab(name)}-burn-${factor}x-${minutes}m`),
    alarmDescription: `${what}: ${factor} times what is allowed, for ${minutes} minutes.`,
    metricQueries: [
      of("share", "Average"),
      of("bad", "Sum"),
      { id: "burn", expression: `IF(bad >= ${fewest}, share, 0)`, label: "burn", returnData: true },
    ],
    comparisonOperator: "GreaterThanThreshold",
    ...{ threshold, evaluationPeriods: 1, treatMissingData: "notBreaching" },
  });
}

const kebab = (name: string): string =>
  name.replace(/(?!^)[A-Z]/g, (letter) => `-${letter.toLowerCase()}`).toLowerCase();
