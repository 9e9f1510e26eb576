import {
  type DeadLetter,
  listDeadLetters,
  type QueuePair,
  redriveDeadLetters,
} from "./dead-letters.ts";
import type { OperatorDeps, Viewer } from "./operator.ts";
import { knownQueues, queueFacts } from "./see-queues.ts";
import { turnsOf } from "./tenants.ts";

/** A dead letter, and which queue it comes from. */
interface ShownLetter {
  queue: string;
  kind: "jobs" | "reports";
  messageId: string;
  turnId: string | null;
  tenantId: string | null;
  /** Why it was put there; null when it was just received too often. */
  reason: string | null;
  receives: number;
  ageMs: number;
}

export interface Letters {
  letters: ShownLetter[];
  /** Those of other tenants, of which nothing is shown. */
  others: number;
}

type LetterDeps = Pick<OperatorDeps, "sqs" | "database" | "models" | "facts">;
type Asked = { queue?: "jobs" | "reports" | undefined };

/** The dead letters of all queues, which stay where they are. */
export async function deadLetters(
  deps: LetterDeps,
  { queue: kind }: Asked,
  viewer: Viewer,
): Promise<Letters> {
  const found: ShownLetter[] = [];
  for (const queue of await pairsOf(deps, kind)) {
    const letters = await listDeadLetters(deps.sqs, queue);
    found.push(...letters.map((letter) => shown(queue, letter)));
  }
  return forViewer(deps, found, viewer);
}

/** Moves dead letters back to their queues. @returns those that it has moved. */
export async function redrive(
  deps: LetterDeps,
  { queue: kind, id }: Asked & { id?: string | undefined },
  viewer: Viewer,
): Promise<Letters> {
  const moved: ShownLetter[] = [];
  for (const queue of await pairsOf(deps, kind)) {
    await redriveDeadLetters(deps.sqs, queue, (letter) => moved.push(shown(queue, letter)), id);
  }
  return forViewer(deps, moved, viewer);
}

type NamedPair = QueuePair & { name: string; kind: "jobs" | "reports" };

async function pairsOf(deps: LetterDeps, kind: Asked["queue"]): Promise<NamedPair[]> {
  const asked = knownQueues(deps).filter((queue) => kind === undefined || queue.kind === kind);
  const found = await Promise.all(asked.map((queue) => queueFacts(deps.sqs, queue)));
  return found.flatMap((queue) => {
    if (queue?.deadLetterUrl === undefined) return [];
    const { name, url, deadLetterUrl } = queue;
    return [{ name, kind: queue.kind, url, deadLetterUrl }];
  });
}

function shown({ name, kind }: NamedPair, letter: DeadLetter): ShownLetter {
  const { messageId, turnId = null, tenantId = null, reason = null, receives, ageMs } = letter;
  return { queue: name, kind, messageId, turnId, tenantId, reason, receives, ageMs };
}

/** What names nobody is no tenant's; a report names a turn only. */
async function forViewer(
  { database }: LetterDeps,
  letters: ShownLetter[],
  { tenantId }: Viewer,
): Promise<Letters> {
  if (tenantId === undefined) return { letters, others: 0 };
  const unnamed = letters.flatMap((letter) =>
    letter.tenantId === null && letter.turnId !== null ? [letter.turnId] : [],
  );
  const own = await turnsOf(database, tenantId, unnamed);
  const visible = letters.filter((letter) => {
    if (letter.tenantId !== null) return letter.tenantId === tenantId;
    return letter.turnId === null || own.has(letter.turnId);
  });
  return { letters: visible, others: letters.length - visible.length };
}
