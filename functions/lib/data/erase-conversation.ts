import { setTimeout as sleep } from "node:timers/promises";
import type { ConversationCommand } from "../../../events/conversation.ts";
import { AxonError } from "../../../events/errors.ts";
import { contextKey } from "../../../events/redis-keys.ts";
import { isTerminal } from "../../../events/turn.ts";
import type { Deps } from "../deps.ts";
import { execute } from "../execute.ts";
import { tell } from "../history/projection.ts";
import type { RequestLog } from "../request-log.ts";
import { conversations, load, turns } from "../streams.ts";
import { cancelTurn } from "../turns/cancel-turn.ts";
import type { JobDeps } from "../turns/jobs.ts";
import { forgetTurn } from "./forget-turn.ts";
import { eraseInRebuild } from "./rebuild-tables.ts";

export type EraseDeps = JobDeps &
  Pick<Deps, "database" | "now" | "openCommits" | "dataKeys" | "keyRegister" | "logEraser">;

/** What was erased. */
export interface Erasure {
  conversationId: string;
  turns: number;
  /** A leader that has not yet said how this turn ended: its stream is deleted when it does. */
  running: string | null;
  /** Commits of before there were keys, which were blanked. */
  plainCommits: number;
}

const pollMs = 100;

/**
 * Erases a conversation's words, wherever they are. Each step can be done again, so whoever died on the way
 * is followed by another who starts from the front:
 *
 *   open      → cancelling  its running turn, if any, is to end.
 *             → erased      the fact is in the log: nobody sees the conversation any more, or adds a turn.
 *   erased    → sealed      its key is destroyed: what the log and its backups hold cannot be read any more.
 *             → untold      the rows in PostgreSQL have no words, in a rebuild's tables neither.
 *             → unplain     nor has what was written before there were keys.
 *             → forgotten   Redis has no token, job or context of it. It comes last, since the steps before
 *                           keep others from putting them there again.
 * @param until how long the end of a running turn is waited for, Unix ms. A leader hears of the wish at once;
 *   what it says later `report` deletes.
 * @throws AxonError conversation_not_found
 */
export async function eraseConversation(
  deps: EraseDeps,
  {
    conversationId,
    tenantId,
    until,
  }: { conversationId: string; tenantId?: string | undefined; until: number },
  log: RequestLog,
): Promise<Erasure> {
  log.add({ conversationId });
  const turnIds = await recordErasure(deps, { conversationId, tenantId }, log);
  await deps.keyRegister.destroy(conversationId, deps.now());
  deps.dataKeys.forget(conversationId);

  const commits = await deps.log.read(conversations.nameOf(conversationId));
  const last = commits.at(-1);
  if (last !== undefined) await tell(deps, last);
  await eraseInRebuild(deps.database, conversationId);
  const plainCommits = await blankPlain(deps, conversationId, turnIds);
  const running = await endOfTurn(deps, turnIds.at(-1), until);
  await forgetTurns(deps, turnIds);
  await deps.redis.del(contextKey(conversationId));
  const erasure = { conversationId, turns: turnIds.length, running, plainCommits };
  log.info("erased", { turns: turnIds.length, running, plainCommits });
  return erasure;
}

/** Ends what runs, and makes it a fact. @returns the conversation's turns. */
async function recordErasure(
  deps: JobDeps & Pick<Deps, "now">,
  { conversationId, tenantId }: { conversationId: string; tenantId?: string | undefined },
  log: RequestLog,
): Promise<string[]> {
  const found = await load(deps.log, conversations, conversationId);
  const { state } = found;
  const isOther = state.status !== "none" && tenantId !== undefined && tenantId !== state.tenantId;
  if (state.status === "none" || isOther) {
    throw new AxonError("conversation_not_found", `There is no conversation ${conversationId}.`);
  }
  // A turn that was added while this went on is found by the second load, after the fact.
  await cancelLatest(deps, state.turnIds.at(-1), state.tenantId, log);
  const done = await execute(
    deps.log,
    conversations,
    conversationId,
    (): ConversationCommand => ({ type: "Erase", at: deps.now(), conversationId, tenantId }),
    found,
  );
  const turnIds = done.state.status === "none" ? [] : done.state.turnIds;
  if (turnIds.at(-1) !== state.turnIds.at(-1)) {
    await cancelLatest(deps, turnIds.at(-1), state.tenantId, log);
  }
  return turnIds;
}

/** Turns come one at a time, so only the latest can run. It may have been named and never requested. */
async function cancelLatest(
  deps: JobDeps & Pick<Deps, "now">,
  turnId: string | undefined,
  tenantId: string,
  log: RequestLog,
): Promise<void> {
  if (turnId === undefined) return;
  const { state } = await load(deps.log, turns, turnId);
  if (state.status === "none" || isTerminal(state)) return;
  await cancelTurn(deps, { turnId, tenantId }, log.fork());
}

/** @returns the turn if it has not ended in time. */
async function endOfTurn(
  deps: EraseDeps,
  turnId: string | undefined,
  until: number,
): Promise<string | null> {
  if (turnId === undefined) return null;
  for (;;) {
    const { state } = await load(deps.log, turns, turnId);
    if (state.status === "none" || isTerminal(state)) return null;
    if (deps.now() >= until) return turnId;
    await sleep(pollMs);
  }
}

/** So many streams are read side by side. */
const readsAtOnce = 16;

async function blankPlain(
  { logEraser }: EraseDeps,
  conversationId: string,
  turnIds: readonly string[],
): Promise<number> {
  const waiting = [conversations.nameOf(conversationId), ...turnIds.map(turns.nameOf)];
  let blanked = 0;
  async function blankEach(): Promise<void> {
    for (let stream = waiting.pop(); stream !== undefined; stream = waiting.pop()) {
      const found = await logEraser.blankPlain(stream);
      blanked += found;
    }
  }
  await Promise.all(Array.from({ length: readsAtOnce }, blankEach));
  return blanked;
}

/** So many turns' keys are deleted side by side. */
const deletesAtOnce = 200;

async function forgetTurns(deps: EraseDeps, turnIds: readonly string[]): Promise<void> {
  for (let from = 0; from < turnIds.length; from += deletesAtOnce) {
    const some = turnIds.slice(from, from + deletesAtOnce);
    await Promise.all(some.map((turnId) => forgetTurn(deps, turnId)));
  }
}
