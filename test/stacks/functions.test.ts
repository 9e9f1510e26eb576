import { describe, expect, test } from "vitest";
import { eventTable } from "../../events/event-log-dynamodb.ts";
import { allowed, graphOf, statementsOf, unavailable } from "./harness/graph.ts";

const prod = graphOf("prod");

const jobs = "axon-prod-jobs-llama-3-70b-instruct-1";
const log = "axon-prod-events";
const stream = "table/LogTable/stream/1";

const readLog = [`dynamodb:Query → ${log}`];
const writeLog = [`dynamodb:Query → ${log}`, `dynamodb:PutItem → ${log}`];
const keyTable = "axon-prod-data-keys";
const byKey = "kms:Decrypt → Key";
const readWords = [`dynamodb:Query → ${keyTable}`, byKey];
const writeWords = [...readWords, `dynamodb:PutItem → ${keyTable}`];
const eraseWords = [
  ...[...writeWords, `dynamodb:UpdateItem → ${keyTable}`],
  ...[`dynamodb:Query → ${keyTable}/index/*`, `dynamodb:UpdateItem → ${log}`],
];
const sendJobs = [`sqs:SendMessage → ${jobs}`];
const postFrames = ["execute-api:ManageConnections → SocketApi/*/*/@connections/*"];
const readStream = ["DescribeStream", "GetRecords", "GetShardIterator", "ListStreams"].map(
  (action) => `dynamodb:${action} → ${stream}`,
);
const followLog = [...readStream, "sqs:SendMessage → axon-prod-log-unprocessed"];
const takeReports = ["ReceiveMessage", "DeleteMessage", "GetQueueAttributes"].map(
  (action) => `sqs:${action} → axon-prod-reports.fifo`,
);

const groups = [0, 1].map((index) => `Nodes-llama-3-70b-instruct-1-${index}`);
const scaleGroups = [
  "eks:DescribeCluster → axon-prod-data-plane",
  "eks:ListNodegroups → axon-prod-data-plane",
  ...groups.map((group) => `eks:DescribeNodegroup → ${group}`),
  ...groups.map((group) => `eks:UpdateNodegroupConfig → ${group}`),
];
const readManifests = [
  ...["GetObject", "GetObjectVersion"].map((action) => `s3:${action} → ModelsBucket/rollouts/*`),
  "s3:ListBucket → ModelsBucket",
];

const readOrder = `dynamodb:Query → ${log}/index/*`;
const queueNames = [jobs, "axon-prod-reports.fifo"];
const deadNames = [`${jobs}-dead`, "axon-prod-reports-dead.fifo"];
const seeQueues = [...queueNames, ...deadNames].map((name) => `sqs:GetQueueAttributes → ${name}`);
/** To see the queues, and to move dead letters back. */
const onQueues = [
  ...seeQueues,
  ...queueNames.map((name) => `sqs:SendMessage → ${name}`),
  ...["ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility"].flatMap((action) =>
    deadNames.map((name) => `sqs:${action} → ${name}`),
  ),
];

/** All that each handler may do; beside it there are only logs and network interfaces. */
const permissions: Record<string, string[]> = {
  Connect: readLog,
  Disconnect: postFrames,
  Unrouted: postFrames,
  Chat: [...writeLog, ...writeWords, ...sendJobs, ...postFrames],
  Completions: [...writeLog, ...writeWords, ...sendJobs],
  Resume: [...readLog, ...readWords, ...postFrames],
  Cancel: [...writeLog, ...writeWords, ...sendJobs, ...postFrames],
  History: [...writeLog, ...readWords],
  Dispatch: [...writeLog, ...writeWords, ...sendJobs, ...followLog],
  Project: [...readLog, ...readWords, ...followLog],
  Report: [...writeLog, ...writeWords, ...sendJobs, ...takeReports],
  Sweep: [...writeLog, ...writeWords, ...sendJobs],
  Erase: [...writeLog, ...eraseWords, ...sendJobs, ...followLog],
  Data: [...writeLog, ...eraseWords, ...sendJobs, readOrder],
  Migrate: [],
  Manage: [...writeLog, ...readStream, ...scaleGroups],
  Ops: [...writeLog, readOrder, ...onQueues],
  Observe: [...readLog, readOrder, ...seeQueues, ...postFrames],
  Operate: [...writeLog, readOrder, ...onQueues, ...postFrames],
  Manifest: [...writeLog, ...readManifests],
};

const tls = "NODE_EXTRA_CA_CERTS";
/** Variables of every function. */
const ofEach = new Set(["NODE_OPTIONS", "AXON_METRICS_NAMESPACE"]);
const admission = ["AXON_TENANT_IN_FLIGHT", "AXON_MAX_WAIT_MS"];
const operations = ["AXON_STAGE_NAME", "AXON_REPORTS_QUEUE_URL"];
/** Variables that each handler has of ours. What is linked is in an encrypted file instead. */
const variables: Record<string, string[]> = {
  Connect: [],
  Disconnect: [],
  Unrouted: [],
  Chat: [tls, "AXON_MODELS", ...admission, "AXON_RATE_PER_MINUTE", "AXON_RATE_BURST"],
  Completions: ["AXON_MODELS", ...admission, "AXON_RATE_PER_MINUTE", "AXON_RATE_BURST"],
  Resume: [],
  Cancel: [tls, "AXON_MODELS", ...admission],
  History: [tls, "AXON_MODELS"],
  Dispatch: [tls, "AXON_MODELS", ...admission],
  Project: [tls],
  Report: [tls, "AXON_MODELS", ...admission],
  Sweep: [tls, "AXON_MODELS", ...admission],
  Erase: [tls, "AXON_MODELS", ...admission],
  Data: [tls, "AXON_MODELS", ...admission],
  Migrate: [tls],
  Manage: [tls, "AXON_MODELS"],
  Ops: [tls, "AXON_MODELS", ...operations],
  Observe: [tls, "AXON_MODELS", ...operations],
  Operate: [tls, "AXON_MODELS", ...operations],
  Manifest: [],
};

/** Of what a function loads when it starts. */
const mostBytes = 500_000;

const managedPolicy = (name: string) => `arn:aws:iam::aws:policy/service-role/${name}`;

describe.skipIf(unavailable)("functions", () => {
  const functions = prod.all("lambda/function");

  test("there is one for each handler, and no other", () => {
    const names = functions.map(({ name }) => name.replace(/Function$/, "")).sort();
    expect(names).toEqual(Object.keys(permissions).sort());
  });

  test("each bundle was built, and is at most 500 kB", () => {
    const sources = prod.bundles.map(({ source }) => source).sort();
    const expected = Object.keys(permissions).map(
      (name) => `functions/${name.toLowerCase()}.handler`,
    );
    expect(sources).toEqual(expected.sort());
    for (const { source, bytes } of prod.bundles) {
      expect(bytes, source).toBeGreaterThan(10_000);
      expect(bytes, source).toBeLessThanOrEqual(mostBytes);
    }
  });

  test.each(Object.entries(permissions))(
    "%s may do what it must, and nothing else",
    (name, expected) => {
      const role = prod.one("iam/role", `${name}Role`);
      expect(allowed(role).sort()).toEqual([...expected].sort());
      expect(role.inputs["managedPolicyArns"]).toEqual([
        managedPolicy("AWSLambdaBasicExecutionRole"),
        managedPolicy("AWSLambdaVPCAccessExecutionRole"),
      ]);
      expect(role.inputs["assumeRolePolicy"].Statement).toEqual([
        {
          ...{ Sid: "AllowAssumeRole", Effect: "Allow", Action: "sts:AssumeRole" },
          Principal: { Service: "lambda.amazonaws.com" },
        },
      ]);
    },
  );

  test.each(Object.entries(variables))(
    "%s is told what it needs, and nothing else",
    (name, expected) => {
      const { environment } = prod.one("lambda/function", `${name}Function`).inputs;
      const own = Object.keys(environment.variables).filter(
        (variable) => !variable.startsWith("SST_") && !ofEach.has(variable),
      );
      expect(own.sort()).toEqual([...expected].sort());
      expect(environment.variables).toMatchObject({
        ...{ NODE_OPTIONS: "--enable-source-maps", AXON_METRICS_NAMESPACE: "Axon/prod" },
      });
    },
  );

  test("what manage knows of the cluster takes none of the 4 KB that Lambda has for variables", () => {
    for (const { name, inputs } of functions) {
      const entries = Object.entries<string>(inputs["environment"].variables);
      expect(entries.map(([variable]) => variable)).not.toContain("SST_RESOURCE_Cluster");
      expect(Buffer.byteLength(entries.flat().join("")), name).toBeLessThan(4_096);
    }
    // With every revision that the catalog has room for the rest is still less than that.
    const { variables: env } = prod.one("lambda/function", "ManageFunction").inputs["environment"];
    const { AXON_MODELS: catalog, ...rest } = env as Record<string, string>;
    expect(catalog).toBeDefined();
    expect(Buffer.byteLength(Object.entries(rest).flat().join(""))).toBeLessThan(4_096 - 3_000);
  });

  test("the catalog of models names the queues that there are", () => {
    const { variables: env } = prod.one("lambda/function", "ChatFunction").inputs["environment"];
    const url = `https://sqs.us-east-1.amazonaws.com/123456789012/${jobs}`;
    expect(JSON.parse(env.AXON_MODELS)).toMatchObject([
      { model: "llama-3-70b", revision: "llama-3-70b-instruct-1", queueUrl: url, default: true },
    ]);
  });

  test("all run on ARM, on Node 24, in the private subnets, with an encrypted log of their own", () => {
    for (const { name, inputs } of functions) {
      expect(inputs, name).toMatchObject({
        ...{ architectures: ["arm64"], runtime: "nodejs24.x" },
        vpcConfig: { securityGroupIds: ["FunctionsGroup-id"] },
      });
      expect(inputs["vpcConfig"].subnetIds.join()).not.toContain("Public");
      const group = prod.one("cloudwatch/logGroup", name.replace(/Function$/, "LogGroup"));
      expect(group.inputs).toMatchObject({ kmsKeyId: expect.any(String), retentionInDays: 30 });
    }
  });

  test("API Gateway waits longer than any handler of the socket runs", () => {
    for (const name of [
      "Connect",
      "Disconnect",
      "Unrouted",
      "Chat",
      "Resume",
      "Cancel",
      "Observe",
      "Operate",
      "History",
    ]) {
      expect(prod.one("lambda/function", `${name}Function`).inputs["timeout"]).toBeLessThan(29);
    }
  });

  test("the database is migrated before any code that counts on it is deployed", () => {
    const migration = prod.one("lambda/invocation", "Migration");
    expect(migration.inputs).toMatchObject({ functionName: "axon-prod-migrate" });
    expect(migration.inputs["triggers"].code).toMatch(/^assets\/Migrate-code-[0-9a-f]{64}\.zip$/);
    const waiting = functions
      .filter(({ dependsOn }) => dependsOn.some((urn) => urn.endsWith("::Migration")))
      .map(({ name }) => name.replace(/Function$/, ""));
    const withDatabase = Object.keys(variables).filter((name) => variables[name]?.includes(tls));
    expect([...waiting, "Migrate"].sort()).toEqual(withDatabase.sort());
  });

  test("what runs each minute is never joined by the next one", () => {
    const reserved = functions.filter(({ inputs }) => inputs["reservedConcurrentExecutions"] > 0);
    const counts = reserved.map(({ name, inputs }) => [
      name,
      inputs["reservedConcurrentExecutions"],
    ]);
    expect(counts.sort()).toEqual([
      ["ManageFunction", 1],
      ["SweepFunction", 1],
    ]);
    const configs = prod.all("lambda/functionEventInvokeConfig").map(({ inputs }) => inputs);
    expect(configs).toHaveLength(2);
    for (const name of ["manage", "sweep"]) {
      expect(configs).toContainEqual({
        functionName: `axon-prod-${name}`,
        ...{ maximumEventAgeInSeconds: 60, maximumRetryAttempts: 0 },
      });
    }
    const inPersonal = graphOf("ada").all("lambda/function");
    expect(inPersonal.filter(({ inputs }) => inputs["reservedConcurrentExecutions"] > 0)).toEqual(
      [],
    );
  });

  test.each([
    ["Tick", "sweep"],
    ["ManageTick", "manage"],
  ])("%s calls %s each minute", (name, called) => {
    expect(prod.one("scheduler/schedule", `${name}Schedule`).inputs).toMatchObject({
      scheduleExpression: "rate(1 minute)",
      target: {
        arn: expect.stringMatching(new RegExp(`:axon-prod-${called}$`)),
        retryPolicy: { maximumRetryAttempts: 0 },
      },
    });
  });
});

describe.skipIf(unavailable)("what feeds functions", () => {
  const source = (name: string) => prod.one("lambda/eventSourceMapping", name).inputs;
  const partly = { functionResponseTypes: ["ReportBatchItemFailures"] };

  test("the history waits for its database, and is skipped nothing for half a day", () => {
    expect(source("LogTo-project")).toMatchObject({
      ...partly,
      ...{ bisectBatchOnFunctionError: true, maximumRetryAttempts: -1 },
      maximumRecordAgeInSeconds: 43_200,
      destinationConfig: {
        onFailure: { destinationArn: expect.stringContaining("log-unprocessed") },
      },
    });
  });

  test("the outbox gives up soon, since the sweep does not", () => {
    expect(source("LogTo-dispatch")).toMatchObject({
      ...partly,
      ...{ bisectBatchOnFunctionError: true, maximumRetryAttempts: 5 },
      destinationConfig: {
        onFailure: { destinationArn: expect.stringContaining("log-unprocessed") },
      },
    });
  });

  test("rollouts are told of what is written of them and of groups, and of nothing else", () => {
    const { filterCriteria, destinationConfig } = source("LogTo-manage");
    const patterns = filterCriteria.filters.map(({ pattern }: { pattern: string }) =>
      JSON.parse(pattern),
    );
    const { hashKey } = eventTable;
    expect(patterns).toEqual([
      { dynamodb: { Keys: { [hashKey]: { S: [{ prefix: "rollout/" }, { prefix: "group/" }] } } } },
    ]);
    expect(source("LogTo-manage")).toMatchObject({
      ...{ ...partly, functionName: "axon-prod-manage", startingPosition: "LATEST" },
      ...{ maximumRetryAttempts: 2, maximumRecordAgeInSeconds: 300 },
    });
    expect(destinationConfig).toBeUndefined();
    for (const name of ["project", "dispatch"]) {
      expect(source(`LogTo-${name}`)["filterCriteria"]).toBeUndefined();
    }
  });

  test("manifests in the bucket of models reach their function, and no weights do", () => {
    const [notification, ...others] = prod.all("s3/bucketNotification");
    expect(others).toEqual([]);
    expect(notification?.inputs["lambdaFunctions"]).toEqual([
      {
        ...{ id: "Manifest", events: ["s3:ObjectCreated:*"] },
        lambdaFunctionArn: expect.stringMatching(/:axon-prod-manifest$/),
        ...{ filterPrefix: "rollouts/", filterSuffix: ".json" },
      },
    ]);
    const permission = prod.one(
      "lambda/permission",
      "ModelsNotificationsNotificationManifestPermission",
    );
    expect(permission.inputs).toMatchObject({
      ...{ principal: "s3.amazonaws.com", action: "lambda:InvokeFunction" },
      function: expect.stringMatching(/:axon-prod-manifest$/),
      sourceArn: expect.stringContaining("ModelsBucket"),
    });
  });

  test("nothing but people calls ops", () => {
    const isOps = ({ inputs }: { inputs: object }) => /axon-prod-ops"/.test(JSON.stringify(inputs));
    const callers = ["lambda/permission", "lambda/eventSourceMapping", "scheduler/schedule"];
    expect(callers.flatMap((type) => prod.all(type)).filter(isOps)).toEqual([]);
    expect(prod.outputs["ops"]).toBe("axon-prod-ops");
  });

  test("a report comes again no sooner than its function has ended", () => {
    expect(source("ReportsToReport")).toMatchObject({
      ...{ ...partly, batchSize: 10 },
      scalingConfig: { maximumConcurrency: 50 },
    });
    const { visibilityTimeoutSeconds } = prod.one("sqs/queue", "Reports").inputs;
    const { timeout } = prod.one("lambda/function", "ReportFunction").inputs;
    expect(visibilityTimeoutSeconds).toBeGreaterThanOrEqual(6 * timeout);
  });
});

describe.skipIf(unavailable)("roles", () => {
  test.each(["prod", "ada", "block"])("no role of %s has a wildcard for an action", (stage) => {
    const roles = graphOf(stage).all("iam/role");
    expect(roles.length).toBeGreaterThan(15);
    const wide = roles.flatMap((role) =>
      statementsOf(role)
        .filter(({ Action }) => Action.some((action) => action.includes("*")))
        .map(({ Action }) => `${role.name}: ${Action.join(", ")}`),
    );
    expect(wide).toEqual([]);
  });

  test("no role of ours acts on whatever there is", () => {
    const wide = prod
      .all("iam/role")
      .filter((role) => statementsOf(role).some(({ Resource }) => Resource.includes("*")))
      .map(({ name }) => name);
    expect(wide).toEqual([]);
  });
});
