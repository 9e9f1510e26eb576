import type { Operation } from "../../../events/operations.ts";
import type { RolloutCommand } from "../../../events/rollout.ts";
import { parseRolloutRequest } from "../../../events/rollout-request.ts";

type Commanding =
  | "start"
  | "pause"
  | "resume"
  | "promote"
  | "abort"
  | "rollback"
  | "retire"
  | "scale"
  | "adopt";

/** @param invocationId names what the operator has not: asked again by Lambda, it is the same. */
export function commandOf(
  operation: Extract<Operation, { command: Commanding }>,
  { model, at, invocationId }: { model: string; at: number; invocationId: string },
): RolloutCommand {
  const stamp = { at, model };
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
    case "scale": {
      const { command: _, model: _model, by: _by, revision, reason, ...change } = operation;
      return { type: "ScaleRevision", ...stamp, revision, change, by, reason };
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
