import { footprint } from "../cluster/plan/cost.ts";
import type { Alarm } from "./alarms.ts";
import type { Network } from "./network.ts";
import { isProduction, nameOf } from "./stage.ts";

export type Store = ReturnType<typeof store>;

/**
 * PostgreSQL for the history that people read. Each execution environment of a handler holds a connection
 * of its own, and an instance of 4 GiB takes 450: so few do all there is to do up to some thousand
 * requests a second, and who finds none goes on by the log. Beyond that there is `proxy: true`; it is not
 * there from the start, because a new proxy knows its database only minutes after it was made, too late
 * for the migrations of the same deployment.
 */
export function store({ vpc, groups }: Network, alarm: Alarm) {
  const postgres = new sst.aws.Postgres("Store", {
    // The major version that the local stage and the tests run on.
    version: "18",
    instance: isProduction() ? "t4g.medium" : "t4g.micro",
    // It begins with 20 GB and grows up to this.
    storage: isProduction() ? `${footprint.databaseGigabytes} GB` : "20 GB",
    multiAz: isProduction(),
    vpc: { subnets: vpc.privateSubnets },
    transform: {
      parameterGroup: { parameters: [{ name: "rds.force_ssl", value: "1" }] },
      instance: (args) => {
        args.vpcSecurityGroupIds = [groups.store.id];
        args.publiclyAccessible = false;
        args.allowMajorVersionUpgrade = false;
        args.copyTagsToSnapshot = true;
        args.backupRetentionPeriod = isProduction() ? 14 : 1;
        args.deletionProtection = isProduction();
        args.skipFinalSnapshot = !isProduction();
        if (isProduction()) args.finalSnapshotIdentifier = nameOf("store-final");
        return undefined;
      },
    },
  });
  const dimensions = { DBInstanceIdentifier: postgres.id };
  alarm("StoreProcessor", {
    ...{ service: "RDS", metric: "CPUUtilization", statistic: "Average", dimensions },
    ...{ threshold: 80, minutes: 10 },
    description: "PostgreSQL is busy. The history lags; chats go on.",
  });
  alarm("StoreConnections", {
    ...{ service: "RDS", metric: "DatabaseConnections", statistic: "Maximum", dimensions },
    ...{ threshold: isProduction() ? 350 : 80, minutes: 5 },
    description:
      "PostgreSQL runs out of connections: take a larger instance, or put a proxy before it.",
  });
  alarm("StoreSpace", {
    ...{ service: "RDS", metric: "FreeStorageSpace", statistic: "Minimum", dimensions },
    ...{ threshold: 2 * 1024 ** 3, isFloor: true, minutes: 5 },
    description:
      "PostgreSQL has less than 2 GiB left, and has grown as far as it may (stacks/store.ts).",
  });
  return postgres;
}
