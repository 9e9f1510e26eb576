import { describe, expect, test } from "vitest";
import { keyTable } from "../../events/data-keys-dynamodb.ts";
import { eventTable } from "../../events/event-log-dynamodb.ts";
import { graphOf, statementsIn, unavailable } from "./harness/graph.ts";

const prod = graphOf("prod");
const personal = graphOf("ada");

describe.skipIf(unavailable)("the event log", () => {
  test("has the keys and the index that the code reads", () => {
    const table = prod.one("dynamodb/table", "LogTable").inputs;
    const types = Object.fromEntries(
      table["attributes"].map(({ name, type }: { name: string; type: string }) => [name, type]),
    );
    expect(types).toEqual({
      [eventTable.hashKey]: "S",
      [eventTable.rangeKey]: "N",
      [eventTable.orderHashKey]: "N",
      [eventTable.orderRangeKey]: "S",
    });
    expect(table).toMatchObject({
      ...{ hashKey: eventTable.hashKey, rangeKey: eventTable.rangeKey },
      globalSecondaryIndexes: [
        {
          name: eventTable.orderIndex,
          ...{ hashKey: eventTable.orderHashKey, rangeKey: eventTable.orderRangeKey },
          projectionType: "ALL",
        },
      ],
      ...{ streamEnabled: true, streamViewType: "NEW_IMAGE" },
    });
  });

  test("can be brought back to any second of 35 days, is encrypted and protected", () => {
    expect(prod.one("dynamodb/table", "LogTable").inputs).toMatchObject({
      pointInTimeRecovery: { enabled: true, recoveryPeriodInDays: 35 },
      serverSideEncryption: { enabled: true },
      deletionProtectionEnabled: true,
    });
  });
});

describe.skipIf(unavailable)("the data keys", () => {
  const table = () => prod.one("dynamodb/table", "DataKeysTable").inputs;

  test("have the table that the code reads", () => {
    const { hashKey, tenantIndex, tenantHashKey } = keyTable;
    expect(table()).toMatchObject({
      ...{ name: "axon-prod-data-keys", hashKey },
      globalSecondaryIndexes: [
        {
          name: tenantIndex,
          ...{ hashKey: tenantHashKey, rangeKey: hashKey },
          projectionType: "KEYS_ONLY",
        },
      ],
    });
  });

  test("have no backup by which a destroyed one could come back, and a key of their own use", () => {
    expect(table()).toMatchObject({
      pointInTimeRecovery: { enabled: false },
      serverSideEncryption: { enabled: true, kmsKeyArn: expect.any(String) },
      deletionProtectionEnabled: true,
    });
    expect(table()["streamEnabled"] ?? false).toBe(false);
  });
});

describe.skipIf(unavailable)("queues", () => {
  const queues = prod.all("sqs/queue");

  test("are those of the revisions, of the reports, and of what was given up", () => {
    expect(queues.map(({ inputs }) => inputs["name"]).sort()).toEqual([
      "axon-prod-jobs-llama-3-70b-instruct-1",
      "axon-prod-jobs-llama-3-70b-instruct-1-dead",
      "axon-prod-log-unprocessed",
      "axon-prod-reports-dead.fifo",
      "axon-prod-reports.fifo",
    ]);
  });

  test("are encrypted, at rest and on the way", () => {
    const refusing = prod
      .all("sqs/queuePolicy")
      .filter(({ inputs }) => refusesPlainTransport(inputs["policy"]));
    expect(refusing).toHaveLength(queues.length);
    for (const { inputs } of queues) expect(inputs["sqsManagedSseEnabled"]).toBe(true);
  });

  test.each(["JobsLlama370bInstruct1", "Reports"])("%s gives up after five receives", (name) => {
    const dead = prod.one("sqs/queue", `${name}Dead`).inputs;
    expect(JSON.parse(prod.one("sqs/queue", name).inputs["redrivePolicy"])).toEqual({
      deadLetterTargetArn: expect.stringContaining(dead["name"]),
      maxReceiveCount: 5,
    });
    expect(dead["messageRetentionSeconds"]).toBe(14 * 86_400);
  });

  test("reports come in order, turn by turn", () => {
    expect(prod.one("sqs/queue", "Reports").inputs).toMatchObject({
      ...{ fifoQueue: true, contentBasedDeduplication: false },
      ...{ deduplicationScope: "messageGroup", fifoThroughputLimit: "perMessageGroupId" },
    });
  });
});

describe.skipIf(unavailable)("alarms", () => {
  const alarms = prod.all("cloudwatch/metricAlarm");
  const of = (metricName: string) =>
    alarms.filter(({ inputs }) => inputs["metricName"] === metricName).map(({ name }) => name);

  test("ring for each dead letter, for age and for depth", () => {
    expect(of("ApproximateNumberOfMessagesVisible").sort()).toEqual([
      "JobsLlama370bInstruct1DeadAlarm",
      "JobsLlama370bInstruct1DepthAlarm",
      "ReportsDeadAlarm",
      "UnprocessedAlarm",
    ]);
    expect(of("ApproximateAgeOfOldestMessage").sort()).toEqual([
      "JobsLlama370bInstruct1AgeAlarm",
      "ReportsAgeAlarm",
    ]);
    expect(of("IteratorAge")).toHaveLength(4);
    expect(of("Errors")).toHaveLength(prod.all("lambda/function").length);
    // It runs once a minute, so a second error a minute there never is.
    for (const name of ["Sweep", "Manage"]) {
      const { threshold } = prod.one("cloudwatch/metricAlarm", `${name}ErrorsAlarm`).inputs;
      expect(threshold, name).toBe(0);
    }
    expect(of("Throttles")).not.toContain("ManageThrottlesAlarm");
    expect(of("Throttles")).toContain("ChatThrottlesAlarm");
  });

  test("ring before PostgreSQL has no connections or no space left", () => {
    const [connections] = of("DatabaseConnections");
    expect(prod.one("cloudwatch/metricAlarm", connections ?? "").inputs).toMatchObject({
      ...{ comparisonOperator: "GreaterThanThreshold", threshold: 350 },
    });
    expect(prod.one("cloudwatch/metricAlarm", "StoreSpaceAlarm").inputs).toMatchObject({
      comparisonOperator: "LessThanThreshold",
    });
  });

  test("watch every node of Redis", () => {
    expect(of("DatabaseMemoryUsagePercentage")).toHaveLength(2);
  });

  test("say what to do, and reach an encrypted topic", () => {
    const [topic] = prod.all("sns/topic");
    expect(topic?.inputs["kmsMasterKeyId"]).toMatch(/^arn:aws:kms/);
    // Windows of an objective tell nobody: the alarm above them does (alarms.test.ts).
    for (const { inputs } of alarms.filter((alarm) => alarm.inputs["metricName"] !== undefined)) {
      expect(inputs["alarmDescription"].length).toBeGreaterThan(30);
      expect(inputs["alarmActions"]).toEqual([expect.stringContaining("axon-prod-alarms")]);
    }
  });

  test("reach somebody, where somebody is named", () => {
    expect(prod.all("sns/topicSubscription")).toEqual([]);
    expect(graphOf("block").all("sns/topicSubscription")[0]?.inputs).toMatchObject({
      ...{ protocol: "email", endpoint: "operators@example.com" },
    });
  });
});

describe.skipIf(unavailable)("stores", () => {
  test("Redis is a cluster with TLS, a password, a second node and encrypted disks", () => {
    expect(prod.one("elasticache/replicationGroup", "RedisCluster").inputs).toMatchObject({
      ...{ engine: "valkey", clusterMode: "enabled", numNodeGroups: 1, replicasPerNodeGroup: 1 },
      ...{ transitEncryptionEnabled: true, transitEncryptionMode: "required" },
      ...{ atRestEncryptionEnabled: true, multiAzEnabled: true, automaticFailoverEnabled: true },
      authToken: expect.any(String),
      securityGroupIds: ["CacheGroup-id"],
    });
    const { parameters } = prod.one("elasticache/parameterGroup", "RedisParameterGroup").inputs;
    expect(parameters).toContainEqual({ name: "maxmemory-policy", value: "noeviction" });
  });

  test("PostgreSQL is encrypted, doubled, backed up, and refuses plain connections", () => {
    expect(prod.one("rds/instance", "StoreInstance").inputs).toMatchObject({
      ...{ storageEncrypted: true, publiclyAccessible: false, multiAz: true },
      ...{ backupRetentionPeriod: 14, deletionProtection: true, skipFinalSnapshot: false },
      vpcSecurityGroupIds: ["StoreGroup-id"],
    });
    const { parameters } = prod.one("rds/parameterGroup", "StoreParameterGroup").inputs;
    expect(parameters).toEqual([{ name: "rds.force_ssl", value: "1" }]);
  });

  test("the bucket of models is encrypted, versioned and nobody else's", () => {
    expect(prod.one("s3/bucket", "ModelsBucket").inputs).toMatchObject({
      forceDestroy: false,
      serverSideEncryptionConfiguration: {
        rule: { applyServerSideEncryptionByDefault: { sseAlgorithm: "AES256" } },
      },
    });
    expect(prod.one("s3/bucketVersioning", "ModelsVersioning").inputs).toMatchObject({
      versioningConfiguration: { status: "Enabled" },
    });
    for (const { inputs } of prod.all("s3/bucketPublicAccessBlock")) {
      expect(inputs).toMatchObject({ blockPublicPolicy: true, restrictPublicBuckets: true });
    }
    const { policy } = prod.one("s3/bucketPolicy", "ModelsPolicy").inputs;
    expect(refusesPlainTransport(policy)).toBe(true);
  });

  test("all logs are encrypted and end", () => {
    const groups = prod.all("cloudwatch/logGroup");
    expect(groups.length).toBeGreaterThanOrEqual(15);
    const open = groups.filter(
      ({ inputs }) => inputs["kmsKeyId"] === undefined || !(inputs["retentionInDays"] > 0),
    );
    expect(open.map(({ name }) => name)).toEqual([]);
    expect(prod.one("kms/key", "Key").inputs["enableKeyRotation"]).toBe(true);
  });
});

describe.skipIf(unavailable)("stages", () => {
  test("production is protected, and keeps what holds data", () => {
    expect(prod.app).toMatchObject({ name: "axon", removal: "retain", protect: true });
    for (const [type, name] of [
      ["dynamodb/table", "LogTable"],
      ["dynamodb/table", "DataKeysTable"],
      // Data keys that cannot be decrypted any more are none.
      ["kms/key", "Key"],
      ["s3/bucket", "ModelsBucket"],
      ["rds/instance", "StoreInstance"],
    ] as const) {
      expect(prod.one(type, name).retainOnDelete, name).toBe(true);
    }
  });

  test("only a push to its own branch deploys production by itself", () => {
    expect(prod.autodeployed).toEqual({ production: "prod" });
  });

  test("a personal stage goes without a trace, and is smaller", () => {
    expect(personal.app).toMatchObject({ removal: "remove", protect: false });
    const kept = personal.made.filter(({ retainOnDelete }) => retainOnDelete);
    // The account's own: by it API Gateway writes logs for whoever else deploys here.
    expect(kept.map(({ name }) => name)).toEqual([
      "APIGatewayPushToCloudWatchLogsRole",
      "SocketAPIGatewayAccountSetup",
    ]);
    expect(personal.one("dynamodb/table", "LogTable").inputs["deletionProtectionEnabled"]).toBe(
      false,
    );
    expect(personal.one("s3/bucket", "ModelsBucket").inputs["forceDestroy"]).toBe(true);
    expect(personal.one("rds/instance", "StoreInstance").inputs).toMatchObject({
      ...{ multiAz: false, deletionProtection: false, skipFinalSnapshot: true },
    });
    expect(personal.one("elasticache/replicationGroup", "RedisCluster").inputs).toMatchObject({
      replicasPerNodeGroup: 0,
    });
  });

  test("two stages never meet under one name", () => {
    const names = (graph: typeof prod) =>
      graph.made
        .filter(({ type }) => type.startsWith("aws:") && !inner.some((each) => type.includes(each)))
        .flatMap(({ type, inputs }) => (inputs["name"] ? [`${type} ${inputs["name"]}`] : []));
    const own = new Set(names(personal));
    expect(names(prod).filter((name) => own.has(name))).toEqual([]);
  });
});

/** Names within something that is a stage's own: a VPC, an API. */
const inner = ["servicediscovery/privateDnsNamespace", "apigatewayv2/stage"];

function refusesPlainTransport(policy: string): boolean {
  return statementsIn(policy).some(
    ({ Effect, Condition }) =>
      Effect === "Deny" && Condition?.["Bool"]?.["aws:SecureTransport"]?.[0] === "false",
  );
}
