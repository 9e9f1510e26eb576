import * as z from "zod";
import { AxonError } from "../../../events/errors.ts";
import { type Operation, operationSchema } from "../../../events/operations.ts";
import type { HistoryEntry, ObservedData, View } from "../../../events/views.ts";
import { execute } from "../execute.ts";
import type { RefusalAnswer } from "../refusals.ts";
import type { RequestLog } from "../request-log.ts";
import type { StatusAnswer } from "../rollout/rollout-answers.ts";
import { load, rollouts, turns } from "../streams.ts";
import { type TurnOrigin, turnOrigin } from "../turns/turn-origin.ts";
import { type Check, checkAll } from "./check.ts";
import type { KeyOpsAnswer } from "./keys.ts";
import type { OperatorDeps, Viewer } from "./operator.ts";
import { deadLetters, type Letters, redrive } from "./redrive.ts";
import { commandOf } from "./rollout-commands.ts";
import { type RotationAnswer, rotate } from "./rotate.ts";
import { see } from "./see.ts";
import { historyAt, statusAt } from "./see-rollout.ts";

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
  | { ok: true; view: View; at: number; data: ObservedData[View] }
  | { ok: true; deadLetters: Letters }
  /** Those that were moved. */
  | { ok: true; redriven: Letters }
  | { ok: true; rotation: RotationAnswer }
  | { ok: true; checks: Check[] }
  | KeyOpsAnswer
  | { ok: true; schema: unknown }
  | RefusalAnswer;

/** Who wants it, and the invocation that brings it, after which a command without a name is named. */
export interface Errand extends Viewer {
  invocationId: string;
  log: RequestLog;
}

/** Does what an operator asks. @throws AxonError, and what stores throw */
export async function runOperation(
  deps: OperatorDeps,
  operation: Operation,
  errand: Errand,
): Promise<OpsAnswer> {
  const { log } = errand;
  switch (operation.command) {
    case "help":
      return { ok: true, schema: z.toJSONSchema(operationSchema, { io: "input" }) };
    case "observe": {
      const { command: _, tenantId = errand.tenantId, ...question } = operation;
      const at = deps.now();
      const data = await see(deps, question, { tenantId });
      return { ok: true, view: question.view, at, data };
    }
    case "check":
      return { ok: true, checks: await checkAll(deps) };
    case "turn":
      return { ok: true, turn: await originFor(deps, operation.turnId, errand) };
    case "dead-letters":
      return { ok: true, deadLetters: await deadLetters(deps, operation, errand) };
    case "redrive": {
      const redriven = await redrive(deps, operation, errand);
      log.info("redriven", { letters: redriven.letters.length + redriven.others });
      return { ok: true, redriven };
    }
    case "rotate": {
      const rotation = await rotate(deps, operation);
      const { by, reason } = operation;
      log.info("rotated", { ...rotation, by, reason });
      return { ok: true, rotation };
    }
    default:
      return aboutRollout(deps, operation, errand);
  }
}

async function originFor(
  deps: OperatorDeps,
  turnId: string,
  { tenantId, log }: Errand,
): Promise<TurnOrigin> {
  log.add({ turnId });
  const origin = await turnOrigin(deps, turnId);
  if (tenantId === undefined) return origin;
  const { state } = await load(deps.log, turns, turnId);
  if (state.status !== "none" && state.tenantId === tenantId) return origin;
  throw new AxonError("turn_not_found", `There is no turn ${turnId}.`, { field: "turnId" });
}

type AboutRollout = Exclude<
  Operation,
  { command: "help" | "observe" | "check" | "turn" | "dead-letters" | "redrive" | "rotate" }
>;

async function aboutRollout(
  deps: OperatorDeps,
  operation: AboutRollout,
  { invocationId, log }: Errand,
): Promise<OpsAnswer> {
  const model = operation.model ?? deps.models.pick(undefined).model;
  log.add({ stream: rollouts.nameOf(model) });
  if (operation.command === "status") {
    return { ok: true, status: await statusAt(deps, model, operation) };
  }
  if (operation.command === "history") {
    return { ok: true, ...(await historyAt(deps, model, operation, operation.limit)) };
  }
  const command = commandOf(operation, { model, at: deps.now(), invocationId });
  const { events } = await execute(deps.log, rollouts, model, () => command);
  log.info("commanded", { command: operation.command, events: events.map(({ type }) => type) });
  return { ok: true, recorded: events, status: await statusAt(deps, model, {}) };
}
