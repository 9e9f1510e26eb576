import type { RolloutStatus, SeenGroup, SeenQueue } from "../../events/views.ts";
import { plural } from "./format.ts";

/** Something that an operator can have done, and what is said before it is. */
export interface Action {
  /** On the button. */
  name: string;
  /** Over the question, and on the button that confirms it. */
  title: string;
  /** What will happen, a paragraph each. */
  consequences: readonly string[];
  /** Said on success. */
  done: string;
  isDangerous: boolean;
  /** Why it cannot be done now; undefined where it can. */
  hindrance: string | undefined;
  /** Whether the log keeps a reason. */
  takesReason: boolean;
  /** As events/operations.ts has it. */
  operation: { command: string } & Record<string, unknown>;
}

/** A group's leader drains and is started again. */
export function rotate(group: SeenGroup, all: readonly SeenGroup[]): Action {
  const { groupId, revision, running, epoch } = group;
  const others = all.filter(
    (other) => other !== group && other.revision === revision && takesTurns(other),
  ).length;
  return {
    name: "Rotate…",
    title: `Rotate ${groupId}`,
    consequences: [
      `Its leader takes no more turns, lets ${running ? plural(running, "turn") : "those that it has"} end, and is started again with a higher epoch.`,
      `Meanwhile ${plural(others, "other group serves", "other groups serve")} ${revision}.`,
    ],
    done: `${groupId} has been told to drain and to start again.`,
    isDangerous: false,
    hindrance: whyNotRotated(group, others),
    takesReason: true,
    // Who asks twice means the same leader, not the next one.
    operation: { command: "rotate", groupId, epoch },
  };
}

const takesTurns = ({ status, isAccepting }: SeenGroup): boolean =>
  status === "ready" && isAccepting;

function whyNotRotated({ status, revision }: SeenGroup, others: number): string | undefined {
  if (status !== "ready") return `It is ${status}; only a ready group is rotated.`;
  return others === 0 ? `No other group would take turns of ${revision} meanwhile.` : undefined;
}

/** What was given up comes back into the queues of its kind. */
export function redrive(kind: SeenQueue["kind"], all: readonly SeenQueue[]): Action {
  const given = all.filter((queue) => queue.kind === kind);
  const letters = given.reduce((sum, { deadLetters }) => sum + deadLetters, 0);
  const what = plural(letters, kind === "jobs" ? "job" : "report");
  const consequences =
    letters === 1
      ? `${what} that was given up after several tries goes back to its queue and is tried again.`
      : `${what} that were given up after several tries go back to their queues and are tried again.`;
  return {
    name: "Redrive…",
    title: `Redrive the dead ${kind}`,
    consequences: [
      consequences,
      "What has been done already is not done twice. What still cannot be done comes back here.",
    ],
    done: `The dead ${kind} are back in their queues.`,
    isDangerous: false,
    hindrance: letters === 0 ? `There are no dead ${kind}.` : undefined,
    takesReason: false,
    operation: { command: "redrive", queue: kind },
  };
}

/** One dead letter comes back into its queue. */
export function redriveOne(letter: {
  queue: string;
  kind: SeenQueue["kind"];
  messageId: string;
}): Action {
  const { queue, kind, messageId } = letter;
  return {
    name: "Redrive…",
    title: "Redrive this letter",
    consequences: [
      `It goes back to ${queue} and is tried again. If it still cannot be done it comes back, under another id.`,
    ],
    done: "It is back in its queue.",
    isDangerous: false,
    hindrance: undefined,
    takesReason: false,
    operation: { command: "redrive", queue: kind, id: messageId },
  };
}

/** What can be done about a model's rollout, whether or not it can be done now. */
export function rolloutActions(status: RolloutStatus): Action[] {
  return [promote(status), pauseOrResume(status), abort(status), rollBack(status)];
}

const noRollout = "No rollout is under way.";

/** What a rollout's own orders have in common. It is named: what follows it by then is not meant. */
function about(status: RolloutStatus) {
  const { model, rollout, promoted } = status;
  return {
    takesReason: true,
    isDangerous: false,
    hindrance: rollout === null ? noRollout : undefined,
    model,
    revision: rollout?.revision ?? "the new revision",
    from: promoted ?? "no revision",
    named: { model, ...(rollout !== null && { rolloutId: rollout.rolloutId }) },
  };
}

function promote(status: RolloutStatus): Action {
  const { model, revision, from, named, ...rest } = about(status);
  return {
    ...rest,
    name: "Promote…",
    title: `Promote ${revision}`,
    isDangerous: true,
    consequences: [
      `${revision} gets all new conversations of ${model} now; the steps and gates that are left are not waited for.`,
      `${from} is drained once its turns have ended. It can still be rolled back to.`,
    ],
    done: `${revision} has been promoted.`,
    operation: { command: "promote", ...named },
  };
}

function pauseOrResume(status: RolloutStatus): Action {
  const { model: _, revision, from: _from, named, ...rest } = about(status);
  if (status.rollout?.paused) {
    return {
      ...rest,
      name: "Resume…",
      title: `Resume the rollout of ${revision}`,
      consequences: [
        `The phase “${status.rollout.phase}” begins anew: its time and its turns are counted from zero.`,
      ],
      done: "The rollout goes on.",
      operation: { command: "resume", ...named },
    };
  }
  return {
    ...rest,
    name: "Pause…",
    title: `Pause the rollout of ${revision}`,
    consequences: [
      "The traffic stays as it is. Nothing moves on and nothing times out until it is resumed.",
      "A gate that fails, or a group that cannot form, still rolls it back.",
    ],
    done: "The rollout is paused.",
    operation: { command: "pause", ...named },
  };
}

function abort(status: RolloutStatus): Action {
  const { model, revision, from, named, ...rest } = about(status);
  return {
    ...rest,
    name: "Abort…",
    title: `Abort the rollout of ${revision}`,
    isDangerous: true,
    consequences: [givesBack(model, revision, from), "The log has it as aborted."],
    done: "The rollout has been aborted.",
    operation: { command: "abort", ...named },
  };
}

function rollBack(status: RolloutStatus): Action {
  const { model, revision, from, named, ...rest } = about(status);
  const { previous, rollout } = status;
  if (rollout !== null) {
    return {
      ...rest,
      name: "Roll back…",
      title: `Roll back ${revision}`,
      isDangerous: true,
      consequences: [givesBack(model, revision, from)],
      done: "The rollout has been rolled back.",
      operation: { command: "rollback", ...named },
    };
  }
  return {
    ...rest,
    name: "Roll back…",
    title: `Go back to ${previous ?? "the revision before"}`,
    isDangerous: true,
    hindrance: previous === null ? "There is no revision to go back to." : undefined,
    consequences: [
      `A rollout to ${previous} starts, in one step and without gates: ${previous} gets all new conversations of ${model} as soon as it has groups.`,
      `${from} is drained once its turns have ended.`,
    ],
    done: `The rollout back to ${previous} has been started.`,
    operation: { command: "rollback", model },
  };
}

const givesBack = (model: string, revision: string, from: string): string =>
  `New conversations of ${model} go to ${from} at once. Turns that run on ${revision} end there; then its groups are drained.`;
