import type { Context } from "aws-lambda";
import * as z from "zod";
import { type AxonError, errorCodes } from "../events/errors.ts";
import { type Operation, operationSchema } from "../events/operations.ts";
import type { RolloutCommand } from "../events/rollout.ts";
import { parseRolloutRequest } from "../events/rollout-request.ts";
import { database } from "./lib/database.ts";
import type { Deps } from "./lib/deps.ts";
import { eventLog } from "./lib/event-log.ts";
import { execute } from "./lib/execute.ts";
import { lambda } from "./lib/lambda.ts";
import { models } from "./lib/models.ts";
import { refusalOf } from "./lib/refusals.ts";
import { type StatusAnswer, statusAnswer } from "./lib/rollout-answers.ts";
import { type Moment, newestCommits, readPast } from "./lib/rollout-past.ts";
import { stack } from "./lib/stack.ts";
import { rollouts } from "./lib/streams.ts";
import { type TurnOrigin, turnOrigin } from "./lib/turn-origin.ts";

export type OpsDeps = Pick<Deps, "log" | "database" | "models" | "now" | "logger">;

/** What came of it. A refusal is an answer, too: it says what to do. */
export type OpsAnswer =
  | {
      ok: true;
      status: StatusAnswer;
      /** What a command has caused; nothing where it was done already. */
      recorded?: readonly { type: string }[];
      history?: readonly HistoryEntry[];
    }
  | { ok: true; turn: TurnOrigin }
  | { ok: true; schema: unknown }
  | { ok: false; error: { code: string; message: string; field?: string; retryable: boolean } };

/** One event of the log, and where it stands. */
interface HistoryEntry {
  position: string;
  stream: string;
  event: { type: string };
}

/**
 * The operator's function: commands about rollouts, and questions about what was. It is told by a JSON
 * payload (events/operations.ts) and answers with the state that has come of it. What it records the
 * manager acts on; asked again, it changes nothing more.
 */
export function ops(deps: OpsDeps): (payload: unknown, context: Context) => Promise<OpsAnswer> {
  return stack<unknown, OpsAnswer>(
    deps,
    { keysOf: () => ({}), refuse: refusal },
    async (payload, { awsRequestId, log }) => {
      const parsed = operationSchema.safeParse(payload);
      if (!parsed.success) throw refusalOf(parsed.error);
      const operation = parsed.data;
      if (operation.command === "help") {
        return { ok: true, schema: z.toJSONSchema(operationSchema, { io: "input" }) };
      }
      if (operation.command === "turn") {
        log.add({ turnId: operation.turnId });
        return { ok: true, turn: await turnOrigin(deps, operation.turnId) };
      }
      const model = operation.model ?? deps.models.pick(undefined).model;
      log.add({ stream: rollouts.nameOf(model) });
      if (operation.command === "status")
        return { ok: true, ...(await shown(deps, model, operation)) };
      if (operation.command === "history") {
        return { ok: true, ...(await shown(deps, model, operation, operation.limit)) };
      }
      const command = commandOf(deps, operation, model, awsRequestId);
      const { events } = await execute(deps.log, rollouts, model, () => command);
      log.info("commanded", { command: operation.command, events: events.map(({ type }) => type) });
      return { ok: true, recorded: events, ...(await shown(deps, model, {})) };
    },
  );
}

function refusal({ code, message, field }: AxonError): OpsAnswer {
  const { retryable } = errorCodes[code];
  return { ok: false, error: { code, message, retryable, ...(field !== undefined && { field }) } };
}

async function shown(deps: OpsDeps, model: string, moment: Moment, most?: number) {
  const past = await readPast(deps, model, moment);
  const status = await statusAnswer(deps, model, past, moment);
  if (most === undefined) return { status };
  const commits = await newestCommits(deps, past.commits, moment, most);
  const history = commits.flatMap(({ position, stream, events }) =>
    events.map((event): HistoryEntry => ({ position, stream, event })),
  );
  return { status, history: history.slice(-most) };
}

type Commanding = Exclude<Operation["command"], "status" | "history" | "turn" | "help">;

/** @param invocationId names what the operator has not: asked again by Lambda, it is the same. */
function commandOf(
  deps: OpsDeps,
  operation: Extract<Operation, { command: Commanding }>,
  model: string,
  invocationId: string,
): RolloutCommand {
  const stamp = { at: deps.now(), model };
  const { by } = operation;
  switch (operation.command) {
    case "start": {
      const { command: _, ...request } = operation;
      const { rolloutId = `ops-${invocationId}` } = request;
      return {
        type: "StartRollout",
        ...stamp,
        request: parseRolloutRequest({ ...request, model, rolloutId }),
      };
    }
    case "adopt": {
      const { revision, scale, timeouts, groupIds } = operation;
      return { type: "AdoptRevision", ...stamp, revision, scale, timeouts, groupIds, by };
    }
    case "retire": {
      const { revision, reason } = operation;
      return { type: "RetireRevision", ...stamp, revision, by, reason };
    }
    case "rollback": {
      const { rolloutId, reason, returnId = `back-${invocationId}` } = operation;
      return { type: "RollBack", ...stamp, rolloutId, by, reason, returnId };
    }
    default: {
      const { rolloutId, reason } = operation;
      return { type: commandTypes[operation.command], ...stamp, rolloutId, by, reason };
    }
  }
}

const commandTypes = {
  pause: "PauseRollout",
  resume: "ResumeRollout",
  promote: "PromoteNow",
  abort: "AbortRollout",
} as const;

export const handler = lambda(ops, [eventLog, database, models]);
