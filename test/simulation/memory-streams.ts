import type {
  AppendResult,
  CancelReason,
  Claim,
  StreamToken,
  TokenStream,
  TurnRecord,
} from "../../dataplane/token-stream.ts";
import type { Job } from "../../events/jobs.ts";
import type { StreamEnd, TurnMessage } from "../../events/redis-keys.ts";

/**
 * Token streams in memory, by the rules of dataplane/scripts: one method stands for one script, runs
 * alone as a script does, and says the same. `token-stream.contract.ts` holds both to it.
 *
 * It is synchronous, on a clock that is handed in, and a copy of all it holds can be taken and put
 * back: so a simulation can lose the last second of it, or all.
 */

/** A turn's hash and stream; what is optional need not have been written. */
interface StoredTurn {
  epoch: number;
  leaderId: string;
  groupId: string;
  leaseUntilMs: number;
  startedAt: number | undefined;
  firstTokenAt: number | undefined;
  unwatchedAt: number | undefined;
  cancel: CancelReason | undefined;
  claimedSeq: number | undefined;
  barrenClaims: number;
  tokens: StreamToken[];
  end: StreamEnd | undefined;
  /** Until it is sealed. */
  job: Job | undefined;
}

const notClaimed: StoredTurn = {
  ...{ epoch: -1, leaderId: "", groupId: "", leaseUntilMs: 0, tokens: [], barrenClaims: 0 },
  ...{ startedAt: undefined, firstTokenAt: undefined, unwatchedAt: undefined, cancel: undefined },
  ...{ claimedSeq: undefined, end: undefined, job: undefined },
};

interface MemoryStreamsDeps {
  now: () => number;
  publish?: (message: TurnMessage) => void;
  isWatched?: (turnId: string) => boolean;
  /** A planted bug: appends are let through whatever their epoch. */
  ignoreEpochs?: boolean;
}

type Renewal = Awaited<ReturnType<TokenStream["renewAll"]>>[number];

const stale: Renewal = { status: "stale", cancel: undefined, leaseUntilMs: 0 };

export class MemoryStreams {
  readonly #now: () => number;
  readonly #publish: (message: TurnMessage) => void;
  readonly #isWatched: (turnId: string) => boolean;
  readonly #ignoreEpochs: boolean;
  #turns = new Map<string, StoredTurn>();
  /** By revision: turnId → when its lease ends. */
  #leases = new Map<string, Map<string, number>>();

  constructor(deps: MemoryStreamsDeps) {
    this.#now = deps.now;
    this.#publish = deps.publish ?? (() => {});
    this.#isWatched = deps.isWatched ?? (() => false);
    this.#ignoreEpochs = deps.ignoreEpochs ?? false;
  }

  /** @returns what puts everything back as it is now. */
  snapshot(): () => void {
    const copyTurns = (turns: Map<string, StoredTurn>) =>
      new Map([...turns].map(([id, turn]) => [id, { ...turn, tokens: [...turn.tokens] }]));
    const copyLeases = (leases: Map<string, Map<string, number>>) =>
      new Map([...leases].map(([revision, ofRevision]) => [revision, new Map(ofRevision)]));
    const [turns, leases] = [copyTurns(this.#turns), copyLeases(this.#leases)];
    return () => {
      this.#turns = copyTurns(turns);
      this.#leases = copyLeases(leases);
    };
  }

  loseAll(): void {
    this.#turns.clear();
    this.#leases.clear();
  }

  turn(turnId: string): Readonly<StoredTurn> | undefined {
    return this.#turns.get(turnId);
  }

  /** How many turns are noted as run by a leader. */
  get leases(): number {
    return [...this.#leases.values()].reduce((sum, { size }) => sum + size, 0);
  }

  wishCancel(turnId: string, reason: CancelReason): void {
    this.#write(turnId).cancel = reason;
  }

  claim(job: Job, claimant: { leaderId: string; groupId: string; leaseMs: number }): Claim {
    const { turnId } = job;
    const { leaderId, groupId, leaseMs } = claimant;
    const now = this.#now();
    // A note that is there stays, in case that its leader lives.
    if (!this.#leases.get(job.revision)?.has(turnId)) this.#noteLease(job, leaseMs);
    const known = this.#turns.get(turnId);
    if (known?.end !== undefined) {
      const { cancel: _, ...state } = stateOf(known, now);
      return { status: "sealed", end: known.end, ...state };
    }
    if (known !== undefined && known.leaseUntilMs > now && known.leaderId !== leaderId) {
      return { status: "held", forMs: known.leaseUntilMs - now };
    }
    const turn = this.#write(turnId);
    const isBarren = turn.claimedSeq === turn.tokens.length;
    turn.epoch = Math.max(turn.epoch + 1, now);
    turn.leaderId = leaderId;
    turn.groupId = groupId;
    turn.leaseUntilMs = now + leaseMs;
    turn.barrenClaims = isBarren ? turn.barrenClaims + 1 : 1;
    turn.claimedSeq = turn.tokens.length;
    turn.startedAt ??= now;
    turn.unwatchedAt = undefined;
    turn.job = job;
    this.#noteLease(job, leaseMs);
    const { barrenClaims, leaseUntilMs } = turn;
    return { status: "claimed", barrenClaims, leaseUntilMs, ...stateOf(turn, now) };
  }

  append(
    turnId: string,
    epoch: number,
    from: number,
    tokens: readonly Pick<StreamToken, "text" | "token">[],
  ): AppendResult {
    const turn = this.#turns.get(turnId) ?? notClaimed;
    if (!this.#ignoreEpochs && turn.epoch > epoch) return "stale";
    if (turn.epoch < epoch) return "behind";
    if (turn.end !== undefined) return "sealed";
    if (turn.leaseUntilMs <= this.#now()) return "stale";
    const last = turn.tokens.length;
    if (from > last + 1) return "behind";
    if (from + tokens.length - 1 <= last) return "duplicate";
    for (const { text, token } of tokens.slice(last + 1 - from)) {
      turn.tokens.push({ text, token, epoch });
    }
    if (last === 0) turn.firstTokenAt = this.#now();
    const texts = tokens.map(({ text }) => text);
    this.#publish({ kind: "tokens", turnId, epoch, from, texts });
    return "ok";
  }

  restore(record: TurnRecord, leaseMs: number): "ok" | "stale" | "sealed" {
    const { job, epoch, leaderId, groupId, startedAt, tokens } = record;
    const now = this.#now();
    const known = this.#turns.get(job.turnId) ?? notClaimed;
    if (known.epoch > epoch || (known.epoch === epoch && known.leaderId !== leaderId)) {
      return "stale";
    }
    if (known.end !== undefined) return "sealed";
    if (record.leaseUntilMs <= now) return "stale";
    const turn = this.#write(job.turnId);
    Object.assign(turn, { epoch, leaderId, groupId, job, leaseUntilMs: now + leaseMs });
    turn.startedAt ??= startedAt;
    if (tokens.length > 0) turn.firstTokenAt ??= now;
    turn.tokens = [...tokens];
    return "ok";
  }

  renew(job: Job, epoch: number, leaseMs: number, abandonMs: number): Renewal {
    this.#noteLease(job, leaseMs);
    const turn = this.#turns.get(job.turnId) ?? notClaimed;
    if (turn.epoch > epoch) return stale;
    if (turn.epoch < epoch) return { ...stale, status: "behind" };
    const now = this.#now();
    if (turn.end !== undefined) return { status: "ok", cancel: turn.cancel, leaseUntilMs: 0 };
    if (turn.leaseUntilMs <= now) return stale;
    turn.leaseUntilMs = now + leaseMs;
    if (this.#isWatched(job.turnId)) {
      turn.unwatchedAt = undefined;
    } else if (turn.unwatchedAt === undefined) {
      turn.unwatchedAt = now;
    } else if (abandonMs > 0 && now - turn.unwatchedAt >= abandonMs) {
      turn.cancel ??= "abandoned";
    }
    const { cancel, leaseUntilMs } = turn;
    return { status: "ok", cancel, leaseUntilMs };
  }

  seal(job: Job, epoch: number, end: StreamEnd): "ok" | "stale" | "behind" | "sealed" {
    const { turnId } = job;
    const turn = this.#turns.get(turnId) ?? notClaimed;
    if (turn.epoch > epoch) return "stale";
    if (turn.epoch < epoch) return "behind";
    if (turn.end !== undefined) return "sealed";
    if (turn.leaseUntilMs <= this.#now()) return "stale";
    if (turn.tokens.length < end.lastSeq) return "behind";
    if (turn.tokens.length > end.lastSeq) return "stale";
    turn.end = end;
    turn.leaseUntilMs = 0;
    turn.job = undefined;
    this.#publish({ kind: "end", turnId, epoch, end });
    this.#leases.get(job.revision)?.delete(turnId);
    return "ok";
  }

  orphans(revision: string, most: number): Job[] {
    const now = this.#now();
    const leases = this.#leases.get(revision);
    if (leases === undefined) return [];
    const expired = [...leases].filter(([, until]) => until <= now);
    expired.sort(([a, x], [b, y]) => x - y || (a < b ? -1 : 1));
    const jobs: Job[] = [];
    for (const [turnId] of expired.slice(0, most)) {
      const job = this.#turns.get(turnId)?.job;
      if (job === undefined) leases.delete(turnId);
      else jobs.push(job);
    }
    return jobs;
  }

  #noteLease({ revision, turnId }: Job, leaseMs: number): void {
    const leases = this.#leases.get(revision) ?? new Map<string, number>();
    this.#leases.set(revision, leases.set(turnId, this.#now() + leaseMs));
  }

  #write(turnId: string): StoredTurn {
    const turn = this.#turns.get(turnId) ?? { ...notClaimed, tokens: [] };
    this.#turns.set(turnId, turn);
    return turn;
  }
}

function stateOf(turn: StoredTurn, now: number) {
  const { epoch, leaderId, groupId, cancel, startedAt = now, firstTokenAt = 0, tokens } = turn;
  return { epoch, leaderId, groupId, cancel, startedAt, firstTokenAt, tokens: [...tokens] };
}

/** The port, as the leader's code knows it. */
export function memoryTokenStream(streams: MemoryStreams): TokenStream {
  return {
    claim: async (job, claimant) => streams.claim(job, claimant),
    appendAll: async (batch) =>
      batch.map(({ turnId, epoch, from, tokens }) => streams.append(turnId, epoch, from, tokens)),
    restore: async (turn, leaseMs) => streams.restore(turn, leaseMs),
    renewAll: async (turns, leaseMs, abandonMs = 0) =>
      turns.map(({ job, epoch }) => streams.renew(job, epoch, leaseMs, abandonMs)),
    seal: async (job, epoch, end) => streams.seal(job, epoch, end),
    orphans: async (revision, most) => streams.orphans(revision, most),
  };
}
