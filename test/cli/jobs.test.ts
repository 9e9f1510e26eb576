import { ReceiveMessageCommand, SendMessageCommand, type SQSClient } from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { modelCatalog } from "../../functions/lib/models.ts";
import { ops } from "../../functions/ops.ts";
import type { QueuePair } from "../../local/provision.ts";
import { guide, type Stage, startStage } from "../functions/stage.ts";
import { type InvokedStage, invokedStage, type Ran, runAxon } from "../support/axon-command.ts";
import { freshQueue } from "../support/parts.ts";

/** `axon jobs` as a process of its own, against the function `ops` over Lambda's API, and SQS over its own. */

let sqs: SQSClient;
let jobs: QueuePair;
let reports: QueuePair;
let stage: Stage;
let invoked: InvokedStage;

beforeAll(async () => {
  stage = await startStage();
  sqs = stage.deps.sqs;
  invoked = await invokedStage({ ops: (event, context) => ops(stage.deps)(event, context) });
});
afterAll(async () => {
  await invoked.stop();
  await stage.close();
});
beforeEach(async () => {
  [jobs, reports] = await Promise.all([freshQueue(), freshQueue({ fifo: true })]);
  stage.deps.facts = { stage: "test", reportsQueueUrl: reports.url };
  stage.deps.models = modelCatalog([{ ...guide, queueUrl: jobs.url }]);
});

/** Of the stage above, unless `folder` is another's. */
const axon = (words: readonly string[], folder: string = invoked.folder): Promise<Ran> =>
  runAxon(["jobs", ...words], { AXON_DATA: folder });

const objects = ({ stdout }: Ran) =>
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
      expect.objectContaining({ kind: "jobs", turnId: "turn_11", tenantId: "acme" }),
    );
    expect(listed).toContainEqual(
      expect.objectContaining({ kind: "jobs", turnId: null, reason: "The body is not JSON." }),
    );
  }
  const { code, stdout } = await axon(["dlq"]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^13 dead letters\n/);
  expect(stdout).toMatch(
    / {2}turn_3 {2}tenant acme {2}received 3 times {2}\S+ \w+ old {2}received too/,
  );
  expect(stdout).toMatch(/no turn {2}received 3 times {2}\S+ \w+ old {2}The body is not JSON\.\n/);
});

test("--redrive moves jobs back, once each, without the reason of their death", async () => {
  for (let i = 0; i < 11; i++) await bury(job(`turn_${i}`), "version: 7 is not known");
  const moved = await axon(["dlq", "--redrive", "--queue", "jobs"]);
  expect(moved).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^11 dead letters moved back\n/),
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
  expect((await axon(["dlq", "--redrive"])).stdout).toBe("0 dead letters moved back\n");
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
    { kind: "reports", turnId: "turn_a" },
  ]);
  const moved = await axon(["dlq", "--redrive", "--queue", "reports", "--json"]);
  expect(moved.code).toBe(0);
  expect(objects(moved)).toMatchObject([{ kind: "reports", turnId: "turn_a" }]);
  expect(await receive(reports.url)).toMatchObject([
    { Body: said.MessageBody, Attributes: { MessageGroupId: "turn_a" } },
  ]);
  expect(await receive(reports.deadLetterUrl)).toEqual([]);
});

test.each([
  [[], 2, "Use axon jobs dlq"],
  [["dlq", "--queue", "letters"], 2, 'takes jobs or reports, not "letters"'],
  [["dlq", "--wait"], 2, "Unknown option '--wait'"],
  [["dlq"], 3, "No stage runs here"],
])("axon jobs %j without a stage: exit code %i", async (args, code, message) => {
  const result = await axon(args, "/nowhere");
  expect(result).toMatchObject({ code, stderr: expect.stringContaining(message) });
});

test("axon jobs --help says what the exit codes mean", async () => {
  expect(await axon(["--help"])).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("Exit codes: 0 done"),
  });
});
