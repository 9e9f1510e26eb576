import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import {
  defineCommand,
  exitCodesHelp,
  given,
  operatorHelp,
  operatorOptions,
  type Values,
} from "./command.ts";
import { durationOf, momentOf } from "./moments.ts";
import { askOperator, operatorName, type Question } from "./operator.ts";
import {
  answeredHistory,
  answeredStatus,
  type History,
  historyText,
  type Status,
  statusText,
} from "./rollout-text.ts";
import { CommandError } from "./stage.ts";
import { jsonLines } from "./views.ts";

const rolloutOptions = {
  ...operatorOptions,
  model: { type: "string" },
  id: { type: "string" },
  reason: { type: "string" },
  steps: { type: "string" },
  bake: { type: "string" },
  request: { type: "string" },
  queued: { type: "boolean", default: false },
  wait: { type: "boolean", default: false },
  at: { type: "string" },
  limit: { type: "string" },
  min: { type: "string" },
  max: { type: "string" },
  busy: { type: "string" },
  "queue-wait": { type: "string" },
  "zero-after": { type: "string" },
} as const;

type RolloutOptions = Values<typeof rolloutOptions>;

export const rolloutCommand = defineCommand({
  help: `axon rollout: which revision of a model gets the traffic.

  axon rollout start REVISION   moves the traffic to it, step by step, and back where it does worse
  axon rollout status           weights, groups and gates
  axon rollout history          what was decided, when, by whom and why
  axon rollout pause | resume   nothing moves on meanwhile
  axon rollout promote          all of the traffic now
  axon rollout abort            gives up what is not promoted yet, or takes it out of the queue
  axon rollout rollback         the same; after the promotion, goes back to the revision before
  axon rollout scale [REVISION] how many groups serve it, from now on (default: the promoted one)
  axon rollout retire REVISION  takes the model out of service

Options
  --model NAME       which model (default: the default one)
  --id NAME          which rollout; of a start its own name: the same command again changes nothing
  --reason TEXT      for the log
  start:   --steps 10,50,100   percent of new conversations, step by step
           --bake 10m          how long each step is watched, at least
           --request FILE      everything else as JSON: gates, timeouts, scale (docs/ROLLOUT.md)
           --queued            waits for a rollout that is under way, instead of being refused
           --wait              stays until it has ended; exit code 1 where it was not promoted
  scale:   --min N, --max N    groups at least and at most; what is left out stays as it is
           --busy 0.8          share of the slots that turns may take
           --queue-wait 2s     a turn may wait so long for a group
           --zero-after 30m    no groups after so long without a turn, with --min 0; or never
           --request FILE      the same as JSON, with cooldown, too (docs/ROLLOUT.md)
  status:  --at WHEN           as it was: a time (2026-01-31T12:00:00Z), how long ago (10m), or a
                               position of the log
  history: --at WHEN           up to then
           --limit N           the newest N events (default 200)

Everywhere
${operatorHelp}
Also: axon log replay --until WHEN   the history up to then, and how it all stood

${exitCodesHelp}`,
  words: [
    ...["start", "status", "history", "pause", "resume", "scale"],
    ...["promote", "abort", "rollback", "retire"],
  ],
  options: rolloutOptions,
  run: rollout,
});

async function rollout(words: readonly string[], options: RolloutOptions): Promise<number> {
  const [command, revision, ...rest] = words;
  const { model, id: rolloutId, reason } = options;
  if (rest.length > 0) throw wrong(`"${rest[0]}" is one word too many.`);
  const about = { ...given({ model, reason }), by: operatorName() };
  switch (command) {
    case "start": {
      if (revision === undefined) throw wrong("Name the revision: axon rollout start REVISION.");
      return start({ ...startQuestion(revision, options), ...about }, options);
    }
    case "scale":
      return tell({ ...scaleQuestion(options), ...about, ...given({ revision }) }, options);
    case "retire":
      if (revision === undefined) throw wrong("Name the revision: axon rollout retire REVISION.");
      return tell({ command, ...about, revision }, options);
    case "pause":
    case "resume":
    case "promote":
    case "abort":
    case "rollback":
      if (revision !== undefined) throw wrong(`"${revision}" is one word too many.`);
      return tell({ command, ...about, ...given({ rolloutId }) }, options);
    case "status":
      return tell({ command, ...given({ model }), ...momentOf("at", options.at) }, options);
    case "history": {
      const limit = options.limit === undefined ? undefined : Number(options.limit);
      const moment = momentOf("at", options.at);
      const { history } = answeredHistory.parse(
        await askOperator({ command, ...given({ model, limit }), ...moment }, options.stage),
      );
      process.stdout.write(options.json ? jsonLines(history) : historyText(history));
      return 0;
    }
    case undefined:
      throw wrong("Say what to do: axon rollout status, for instance.");
    default:
      throw wrong(`There is no "axon rollout ${command}".`);
  }
}

/** The history up to a moment, and the state that it adds up to. */
export async function replay(options: {
  until?: string | undefined;
  model?: string | undefined;
  stage?: string | undefined;
  json: boolean;
}): Promise<number> {
  if (options.until === undefined) throw wrong("Say until when: axon log replay --until WHEN.");
  const { model } = options;
  const moment = momentOf("until", options.until);
  const question: Question = { command: "history", ...given({ model }), ...moment, limit: 1_000 };
  const { history, status } = answeredHistory.parse(await askOperator(question, options.stage));
  if (options.json) process.stdout.write(jsonLines([...history, status]));
  else process.stdout.write(`${historyText(history)}\n${statusText(status)}`);
  return 0;
}

const wrong = (message: string): CommandError =>
  new CommandError(`${message} Try axon rollout --help.`, { exitCode: 2 });

function startQuestion(revision: string, options: RolloutOptions): Question {
  const { steps, bake, request, queued, id = `${revision.slice(0, 60)}-${Date.now()}` } = options;
  return {
    ...(request === undefined ? {} : requestIn(request)),
    command: "start",
    ...{ revision, rolloutId: id },
    ...(steps !== undefined && { steps: steps.split(",").map(Number) }),
    ...(bake !== undefined && { bakeMs: durationOf("bake", bake) }),
    ...(queued && { whenBusy: "queue" }),
  };
}

function scaleQuestion(options: RolloutOptions): Question {
  const { request, busy, "queue-wait": wait, "zero-after": zeroAfter } = options;
  const target = given({
    busySlots: numberOf(busy),
    queueWaitMs: wait === undefined ? undefined : durationOf("queue-wait", wait),
  });
  return {
    ...(request === undefined ? {} : requestIn(request)),
    command: "scale",
    ...given({ min: numberOf(options.min), max: numberOf(options.max) }),
    ...(Object.keys(target).length > 0 && { target }),
    ...(zeroAfter !== undefined && {
      zeroAfterMs: zeroAfter === "never" ? null : durationOf("zero-after", zeroAfter),
    }),
  };
}

/** What is no number the function refuses, naming the field. */
const numberOf = (text: string | undefined) => (text === undefined ? undefined : Number(text));

function requestIn(file: string): object {
  try {
    const value: unknown = JSON.parse(readFileSync(file, "utf8"));
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
    throw new Error("it is no JSON object");
  } catch (cause) {
    throw wrong(`${file} cannot be read: ${cause instanceof Error ? cause.message : cause}.`);
  }
}

async function tell(question: Question, { json, stage }: RolloutOptions): Promise<number> {
  const answer = await askOperator(question, stage);
  const { status } = answeredStatus.parse(answer);
  process.stdout.write(json ? jsonLines([status]) : statusText(status));
  return 0;
}

/** Starts, and where it is to wait shows each decision as it comes. */
async function start(question: Question, options: RolloutOptions): Promise<number> {
  if (!options.wait) return tell(question, options);
  const rolloutId = String(question["rolloutId"]);
  let { status } = answeredStatus.parse(await askOperator(question, options.stage));
  let shownUpTo = "";
  for (;;) {
    const asked = { command: "history", ...given({ model: options.model }) } as const;
    const answer = answeredHistory.parse(await askOperator(asked, options.stage));
    status = answer.status;
    const own = sinceRequest(answer.history, rolloutId);
    const fresh = own.filter(({ position }) => position > shownUpTo);
    shownUpTo = fresh.at(-1)?.position ?? shownUpTo;
    print(fresh, options.json);
    const outcome = outcomeOf(status, rolloutId);
    if (outcome !== undefined) {
      if (!options.json) process.stdout.write(`\n${statusText(status)}`);
      return outcome === "promoted" ? 0 : 1;
    }
    await sleep(1_000);
  }
}

/** What came before the request is another story. */
function sinceRequest(history: History, rolloutId: string): History {
  const isRequest = ({ event: { request } }: History[number]) => request?.rolloutId === rolloutId;
  return history.slice(Math.max(0, history.findIndex(isRequest)));
}

function print(history: History, json: boolean): void {
  process.stdout.write(json ? jsonLines(history) : historyText(history));
}

/** Undefined while it is under way, or waits; also of one that was taken out of the queue. */
function outcomeOf({ rollout, queue, past }: Status, rolloutId: string): string | undefined {
  const isOpen = [...queue, ...(rollout === null ? [] : [rollout])].some(
    (other) => other.rolloutId === rolloutId,
  );
  if (isOpen) return undefined;
  return past.find((other) => other.rolloutId === rolloutId)?.outcome ?? "withdrawn";
}
