import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ReceiveMessageCommand, SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { QueuePair } from "../local/provision.ts";
import { awsClientConfig, freshQueue } from "./support/parts.ts";

/** `axon jobs` as a process of its own, against SQS over its wire protocol. */

const root = join(import.meta.dirname, "..");
let sqs: SQSClient;
let folder: string;
let jobs: QueuePair;
let reports: QueuePair;

beforeAll(() => {
  sqs = new SQSClient(awsClientConfig("sqs"));
  folder = mkdtempSync(join(tmpdir(), "axon-jobs-"));
});
afterAll(() => {
  sqs.destroy();
  rmSync(folder, { recursive: true });
});
beforeEach(async () => {
  [jobs, reports] = await Promise.all([freshQueue(), freshQueue({ fifo: true })]);
  const endpoint = awsClientConfig("sqs").endpoint;
  writeFileSync(
    join(folder, "stage.json"),
    JSON.stringify({ queues: { endpoint, emulated: true, jobs, reports } }),
  );
});

interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

/** The local stage's queues, unless `env` says otherwise. */
function axon(args: string[], env: NodeJS.ProcessEnv = { AXON_DATA: folder }): Promise<Result> {
  return new Promise((resolve) => {
    const command = [join(root, "cli", "main.ts"), "jobs", ...args];
    execFile(process.execPath, command, { env: { ...process.env, ...env } }, (error, ...out) => {
      const [stdout, stderr] = out.map(String) as [string, string];
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

const objects = ({ stdout }: Result) =>
  stdout.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line) as object]));

const job = (turnId: string) => JSON.stringify({ version: 1, turnId, tenantId: "acme" });

async function bury(MessageBody: string, reason?: string): Promise<void> {
  const attribute = { DataType: "String", StringValue: reason ?? "" };
  await sqs.send(
    new SendMessageCommand({
      ...{ QueueUrl: jobs.deadLetterUrl, MessageBody },
      ...(reason !== undefined && { MessageAttributes: { reason: attribute } }),
    }),
  );
}

const receive = async (QueueUrl: string) => {
  const { Messages = [] } = await sqs.send(
    new ReceiveMessageCommand({
      ...{ QueueUrl, MaxNumberOfMessages: 10, VisibilityTimeout: 0 },
      ...{ MessageSystemAttributeNames: ["All"], MessageAttributeNames: ["All"] },
    }),
  );
  return Messages;
};

test("dead letters are listed, more than one receive brings, and stay where they are", async () => {
  for (let i = 0; i < 12; i++) await bury(job(`turn_${i}`));
  await bury("no job at all", "The body is not JSON.");
  for (const _ of ["first", "second"]) {
    const listed = objects(await axon(["dlq", "--json"]));
    expect(listed).toHaveLength(13);
    expect(listed).toContainEqual(
      expect.objectContaining({ queue: "jobs", turnId: "turn_11", tenantId: "acme" }),
    );
    expect(listed).toContainEqual(
      expect.objectContaining({ queue: "jobs", reason: "The body is not JSON." }),
    );
  }
  const { code, stdout } = await axon(["dlq"]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^jobs: 13 dead letters\n/);
  expect(stdout).toMatch(
    / {2}turn_3 {2}tenant acme {2}received 3 times {2}\d+ s old {2}received too/,
  );
  expect(stdout).toMatch(/no turn {2}received 3 times {2}\d+ s old {2}The body is not JSON\.\n/);
  expect(stdout).toMatch(/reports: 0 dead letters\n$/);
});

test("--redrive moves jobs back, once each, without the reason of their death", async () => {
  for (let i = 0; i < 11; i++) await bury(job(`turn_${i}`), "version: 7 is not known");
  const moved = await axon(["dlq", "--redrive", "--queue", "jobs"]);
  expect(moved).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/jobs: 11 dead letters moved back\n$/),
  });
  expect(objects(await axon(["dlq", "--json"]))).toEqual([]);
  const bodies = new Set<string | undefined>();
  for (let i = 0; i < 20 && bodies.size < 11; i++) {
    for (const { Body, MessageAttributes } of await receive(jobs.url)) {
      bodies.add(Body);
      expect(MessageAttributes?.["reason"]).toBeUndefined();
    }
  }
  expect(bodies).toEqual(new Set(Array.from({ length: 11 }, (_, i) => job(`turn_${i}`))));
  expect((await axon(["dlq", "--redrive"])).stdout).toBe(
    "jobs: 0 dead letters moved back\nreports: 0 dead letters moved back\n",
  );
});

test("a report goes back to its group, though its first sending is not forgotten yet", async () => {
  const said = {
    MessageBody: JSON.stringify({ version: 1, turnId: "turn_a", type: "completed" }),
    ...{ MessageGroupId: "turn_a", MessageDeduplicationId: "turn_a-1-completed" },
  };
  await sqs.send(new SendMessageCommand({ QueueUrl: reports.url, ...said }));
  // The fifth receive is the last.
  for (let i = 0; i < 6; i++) await receive(reports.url);
  expect(objects(await axon(["dlq", "--json"]))).toMatchObject([
    { queue: "reports", turnId: "turn_a" },
  ]);
  const moved = await axon(["dlq", "--redrive", "--queue", "reports", "--json"]);
  expect(moved).toMatchObject({ code: 0, stderr: "reports: 1 dead letter moved back\n" });
  expect(objects(moved)).toMatchObject([{ queue: "reports", turnId: "turn_a" }]);
  expect(await receive(reports.url)).toMatchObject([
    { Body: said.MessageBody, Attributes: { MessageGroupId: "turn_a" } },
  ]);
  expect(await receive(reports.deadLetterUrl)).toEqual([]);
});

test("queues are found by the environment too", async () => {
  await bury(job("turn_a"));
  const { endpoint, credentials } = awsClientConfig("sqs");
  const env = {
    AXON_DATA: "/nowhere",
    AXON_JOBS_QUEUE_URL: jobs.url,
    AXON_JOBS_DEAD_QUEUE_URL: jobs.deadLetterUrl,
    AWS_ENDPOINT_URL_SQS: endpoint,
    AWS_REGION: "us-east-1",
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
  };
  expect(objects(await axon(["dlq", "--json"], env))).toMatchObject([{ turnId: "turn_a" }]);
  const half = await axon(["dlq"], { ...env, AXON_JOBS_DEAD_QUEUE_URL: undefined });
  expect(half).toMatchObject({ code: 2, stderr: expect.stringContaining("go together") });
});

test.each([
  [[], 2, "Use axon jobs dlq"],
  [["dlq", "--queue", "letters"], 2, 'takes jobs or reports, not "letters"'],
  [["dlq"], 1, "No stage runs here"],
])("axon jobs %j without a stage: exit code %i", async (args, code, message) => {
  const result = await axon(args, { AXON_DATA: "/nowhere" });
  expect(result).toMatchObject({ code, stderr: expect.stringContaining(message) });
});

test("axon jobs --help says what the exit codes mean", async () => {
  expect(await axon(["--help"])).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("Exit codes: 0 done"),
  });
});
