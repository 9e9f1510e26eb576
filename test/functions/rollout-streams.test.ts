import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { afterAll, beforeAll, expect, test } from "vitest";
import { fold } from "../../events/decider.ts";
import { type EventLog, rolloutStream } from "../../events/event-log.ts";
import { dynamoDbEventLog } from "../../events/event-log-dynamodb.ts";
import type { GroupCommand } from "../../events/group.ts";
import { positionAt, positionSource } from "../../events/ids.ts";
import { rollout } from "../../events/rollout.ts";
import { statusOf } from "../../events/rollout-state.ts";
import { execute } from "../../functions/lib/execute.ts";
import { groups, load, rollouts } from "../../functions/lib/streams.ts";
import { model, paths, startRollout, toDraining } from "../events/rollout/histories.ts";
import { awsClientConfig, freshTable } from "../support/parts.ts";

const client = new DynamoDBClient(awsClientConfig("dynamodb"));
/** The clock of what is written: that of the commands. */
let clock = 0;
let log: EventLog;
beforeAll(async () => {
  log = dynamoDbEventLog(
    client,
    await freshTable(),
    positionSource(() => clock),
  );
  for (const command of toDraining) {
    clock = command.at;
    await execute(log, rollouts, model, () => command);
  }
});
afterAll(() => client.destroy());

test("a rollout is read back from DynamoDB as it was decided", async () => {
  const { state, version } = await load(log, rollouts, model);
  expect(statusOf(state)).toBe("draining");
  expect(state).toMatchObject({ promoted: "guide-2", previous: "guide-1" });
  expect(version).toBe(toDraining.length);
});

test("its state at a moment of the past is the fold up to that position", async () => {
  const commits = await log.read(rolloutStream(model));
  const at = (ms: number) => {
    const until = commits.filter(({ position }) => position < positionAt(ms + 1));
    return fold(rollout, until.flatMap(({ events }) => events).filter(rollouts.isOwn));
  };
  expect(statusOf(at(0))).toBe("serving");
  expect(statusOf(at(150))).toBe("forming");
  expect(at(199).weights).toEqual([{ revision: "guide-1", percent: 100 }]);
  expect(at(200).weights).toEqual([
    { revision: "guide-1", percent: 90 },
    { revision: "guide-2", percent: 10 },
  ]);
  expect(at(1_300).promoted).toBe("guide-2");
});

test("a command that comes twice is written once", async () => {
  const again = paths.capacity.at(-1) ?? startRollout();
  const { events, commit } = await execute(log, rollouts, model, () => again);
  expect([events, commit]).toEqual([[], undefined]);
});

test("a group has a stream of its own", async () => {
  const groupId = "guide-2-0";
  const asked = { model, revision: "guide-2", formMs: 1_000 };
  const commands: GroupCommand[] = [
    { type: "RequestGroup", at: 1, groupId, ...asked },
    { type: "ReportReady", at: 2, groupId, epoch: 1, ranks: 2, slots: 8 },
  ];
  for (const command of commands) await execute(log, groups, groupId, () => command);
  expect((await load(log, groups, groupId)).state).toMatchObject({ status: "ready", ...asked });
});
