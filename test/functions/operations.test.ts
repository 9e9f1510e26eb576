import { randomUUID } from "node:crypto";
import { ReceiveMessageCommand, SendMessageCommand } from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { DomainEvent } from "../../events/event-catalog.ts";
import { rolloutStream } from "../../events/event-log.ts";
import { rotationKey } from "../../events/redis-keys.ts";
import type { OpsAnswer } from "../../functions/lib/operations/run-operation.ts";
import { ops } from "../../functions/ops.ts";
import { freshQueue } from "../support/parts.ts";
import { Operator } from "./operator-stage.ts";
import { RolloutStage } from "./rollout-stage.ts";
import { context, type Stage } from "./stage.ts";

/** What an operator does beside rollouts, by `ops` and over the WebSocket, on real stores. */

let stage: Stage;
let fresh: () => RolloutStage;
let one: RolloutStage;
beforeAll(async () => {
  ({ stage, fresh } = await RolloutStage.start());
});
afterAll(() => stage.close());
beforeEach(() => {
  one = fresh();
});

const ask = (command: string, fields: object = {}) =>
  ops(one.deps)({ command, ...fields }, { ...context, awsRequestId: randomUUID() });

function lettersIn(answer: OpsAnswer) {
  if (answer.ok && "deadLetters" in answer) return answer.deadLetters;
  if (answer.ok && "redriven" in answer) return answer.redriven;
  throw new Error(JSON.stringify(answer));
}

describe("dead letters", () => {
  let url: string;
  beforeEach(async () => {
    const queue = await freshQueue();
    const [own] = stage.deps.models.all();
    if (own === undefined) throw new Error("There is no model.");
    one.deps.models = { ...stage.deps.models, all: () => [{ ...own, queueUrl: queue.url }] };
    url = queue.url;
    const bury = (body: unknown) =>
      stage.deps.sqs.send(
        new SendMessageCommand({
          QueueUrl: queue.deadLetterUrl,
          MessageBody: typeof body === "string" ? body : JSON.stringify(body),
          MessageAttributes: { reason: { DataType: "String", StringValue: "no job" } },
        }),
      );
    await bury({ turnId: "turn_a", tenantId: "acme", messages: [{ content: "a secret" }] });
    await bury({ turnId: "turn_r", tenantId: "rival" });
    await bury("not even JSON");
  });

  async function waiting(): Promise<string[]> {
    const { Messages = [] } = await stage.deps.sqs.send(
      new ReceiveMessageCommand({ QueueUrl: url, MaxNumberOfMessages: 10, VisibilityTimeout: 0 }),
    );
    return Messages.map(({ Body = "" }) => Body);
  }

  test("are listed and stay, and one of them can be moved back", async () => {
    const listed = lettersIn(await ask("dead-letters", { queue: "jobs" }));
    expect(listed.letters).toHaveLength(3);
    expect(listed.letters).toContainEqual(
      expect.objectContaining({ kind: "jobs", turnId: "turn_r", tenantId: "rival", receives: 1 }),
    );
    expect(JSON.stringify(listed)).not.toContain("secret");
    expect(await waiting()).toEqual([]);
    const id = listed.letters.find(({ turnId }) => turnId === "turn_r")?.messageId;
    expect(lettersIn(await ask("redrive", { id })).letters).toMatchObject([{ turnId: "turn_r" }]);
    expect(await waiting()).toEqual([expect.stringContaining("turn_r")]);
    expect(lettersIn(await ask("redrive")).letters).toHaveLength(2);
    expect(lettersIn(await ask("dead-letters")).letters).toEqual([]);
  });

  test("a tenant's operator is shown its own, and how many there are of others", async () => {
    const acme = new Operator(stage, one, "acme");
    const shown = lettersIn(await acme.operate({ command: "dead-letters", queue: "jobs" }));
    expect(shown.others).toBe(1);
    expect(shown.letters.map(({ turnId }) => turnId).sort()).toEqual([null, "turn_a"].sort());
  });
});

describe("rotate", () => {
  const group = (number: number) => `${one.revision(1)}-${number}`;

  beforeEach(async () => {
    await one.cluster.start(group(1), one.revision(1));
    await one.adopt({ groupIds: [group(0), group(1)], scale: { min: 2, max: 2 } });
    await one.tellAll(`rollout/${one.model}`);
  });

  const rotation = async () => stage.deps.redis.get(rotationKey(one.revision(1)));
  /** Its leader ends, and one of a higher epoch is there. */
  async function startAgain(groupId: string) {
    one.cluster.groups.delete(groupId);
    one.time += 1_000;
    await one.cluster.start(groupId, one.revision(1));
    await one.tick();
  }

  test("one group at a time, and each once", async () => {
    const asked = await ask("rotate", { groupId: group(0) });
    expect(asked).toMatchObject({ ok: true, rotation: { groupId: group(0), state: "asked" } });
    const told = await rotation();
    expect(JSON.parse(told ?? "")).toMatchObject({ groupId: group(0) });
    expect(await ask("rotate", { groupId: group(0) })).toMatchObject({
      rotation: { state: "under way" },
    });
    expect(await ask("rotate", { groupId: group(1) })).toMatchObject({
      ok: false,
      error: { code: "rollout_busy", retryable: true },
    });
    expect(await rotation()).toBe(told);

    await startAgain(group(0));
    const { epoch } = JSON.parse(told ?? "") as { epoch: number };
    expect(await ask("rotate", { groupId: group(0), epoch })).toMatchObject({
      rotation: { state: "done" },
    });
    expect(await rotation()).toBe(told);
    expect(await ask("rotate", { groupId: group(1) })).toMatchObject({
      rotation: { groupId: group(1), state: "asked" },
    });
  });

  test("of two who ask at once for different groups one is refused", async () => {
    const answers = await Promise.all([0, 1].map((i) => ask("rotate", { groupId: group(i) })));
    expect(answers.filter(({ ok }) => ok)).toHaveLength(1);
  });

  test("never the last group that takes turns of a revision with traffic", async () => {
    one.cluster.groups.delete(group(1));
    one.time += 10_001;
    await one.cluster.beat();
    expect(await ask("rotate", { groupId: group(0) })).toMatchObject({
      error: { code: "rollout_refused", field: "groupId" },
    });
    expect(await rotation()).toBeNull();
    expect(await ask("rotate", { groupId: randomUUID() })).toMatchObject({
      error: { code: "not_found" },
    });
  });
});

describe("over the WebSocket", () => {
  test("a command is recorded in the name of whoever has sent it", async () => {
    await one.adopt();
    const acme = new Operator(stage, one, "acme");
    const start = { command: "start", model: one.model, revision: one.revision(2), by: "someone" };
    expect(await acme.operate(start)).toMatchObject({ ok: true, status: { status: "capacity" } });
    expect((await one.state()).current?.request.by).toBe("user-of-acme");
    // A refusal is an error frame with the request's id.
    const again = await acme.send({ action: "operate", operation: { ...start, rolloutId: "x" } });
    expect(again).toMatchObject({ type: "error", code: "rollout_busy", requestId: "r" });
  });

  test("another tenant's turn is not there, and views have a frame of their own", async () => {
    await one.adopt();
    const turnId = await one.turn(one.revision(1), { tenantId: "rival" });
    const acme = new Operator(stage, one, "acme");
    for (const [operation, code] of [
      [{ command: "turn", turnId }, "turn_not_found"],
      [{ command: "observe", view: "turns", tenantId: "rival" }, "invalid_field"],
    ]) {
      expect(await acme.send({ action: "operate", operation })).toMatchObject({ code });
    }
    const rival = new Operator(stage, one, "rival");
    expect(await rival.operate({ command: "turn", turnId })).toMatchObject({ turn: { turnId } });
  });
});

test("help describes every command and view", async () => {
  const answer = await ask("help");
  const text = JSON.stringify(answer);
  for (const word of ["rotate", "redrive", "dead-letters", "observe", "series", "windowMs"]) {
    expect(text).toContain(`"${word}"`);
  }
});

test("an answer that no connection carries is refused, and says that the work is done", async () => {
  await one.adopt();
  const { log } = one.deps;
  const stream = rolloutStream(one.model);
  const reason = "because ".repeat(120);
  const paused = { type: "RolloutPaused", version: 1, at: 1, model: one.model, rolloutId: "r" };
  const events = Array.from({ length: 150 }, () => ({ ...paused, by: "ada", reason }));
  const version = (await log.read(stream)).at(-1)?.version ?? 0;
  await log.append(stream, version, events as DomainEvent[]);
  const operation = { command: "history", model: one.model, limit: 1_000 };
  const operator = new Operator(stage, one, "acme");
  expect(await operator.send({ action: "operate", operation })).toMatchObject({
    ...{ type: "error", code: "invalid_field", field: "operation" },
    message: expect.stringMatching(/is done.*axon/),
  });
});
