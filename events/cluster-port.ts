import type { Measured } from "./gates.ts";
import type { Weight } from "./rollout-events.ts";

/**
 * What the rollout manager sees of a model outside of the log, and what it may ask for. A port's adapter
 * (EKS, local processes) observes and does; it decides nothing.
 *
 * Observing comes before reading the log: the log has a group before the cluster does, so a group that
 * was seen, and that the log does not have then, is a stray. What cannot be seen is left out, or the
 * observation fails; it is never shown as nothing.
 *
 * Doing is idempotent: each command may come twice, late, or after others. What is done already is a
 * success; what is older than what was done (`basis`, `version`) is one too, and changes nothing.
 */

/** What the rollout manager asks of a cluster. */
export type ClusterCommand =
  /**
   * There shall be machines for so many groups of the revision. Machines of a group that exists are never
   * taken away. A `basis` below the last one that was followed changes nothing.
   */
  | { type: "EnsureCapacity"; model: string; revision: string; groups: number; basis: number }
  /** The cluster shall have the group, and start it again under this id whenever it ends. */
  | { type: "CreateGroup"; model: string; revision: string; groupId: string }
  /** It takes no new turns, also when it is started again, and ends those it has. */
  | { type: "DrainGroup"; model: string; revision: string; groupId: string }
  /**
   * It is ended, and not started again, if it was told to drain and its heartbeat, as it is then, shows
   * no turns or is silent; else nothing happens. What drains takes no turn after it was looked at.
   */
  | { type: "DeleteGroup"; model: string; revision: string; groupId: string }
  /** Which revisions new conversations get. A `version` below that in force changes nothing. */
  | { type: "SetWeights"; model: string; weights: readonly Weight[]; version: number };

/** The commands that are the cluster's; the weights are Redis's. */
export type GroupOrder = Exclude<ClusterCommand, { type: "SetWeights" }>;

/**
 * The cluster itself, as its adapters show it: machines, and what runs on them. Each passes the suite
 * test/cluster-port/cluster-port.contract.ts.
 */
export interface ClusterPort {
  /**
   * Everything that the cluster has of a model, also revisions and groups that nobody asked for. Nothing
   * is read of heartbeats.
   * @throws ClusterError
   */
  observe(model: string): Promise<ClusterView>;
  /**
   * Does it, or asks for it: what takes its time shows in what is observed later.
   * @throws ClusterError
   */
  follow(order: GroupOrder): Promise<void>;
}

/** What a cluster has of a model. */
export interface ClusterView {
  groups: readonly ClusterGroup[];
  /** By revision; left out where it is not known. */
  capacity: Readonly<Record<string, ObservedCapacity>>;
}

/** A group as the cluster itself knows it. */
export type ClusterGroup = Omit<ObservedGroup, "heartbeat">;

/**
 * Why a cluster was not seen or did not do something, and whether the same may succeed later, on its own:
 *
 *   conflict        somebody else has changed it meanwhile
 *   throttled       too many calls
 *   unavailable     it does not answer, or not well
 *   timeout         it has not answered in time; it may have done it
 *   forbidden       it is not allowed to us
 *   quota           the account may not have more
 *   unknown         there is no such revision here
 *   rejected        it refuses what it was asked for: a fault of ours, or of the deployment
 */
export const clusterErrors = {
  conflict: { retryable: true },
  throttled: { retryable: true },
  unavailable: { retryable: true },
  timeout: { retryable: true },
  forbidden: { retryable: false },
  quota: { retryable: false },
  unknown: { retryable: false },
  rejected: { retryable: false },
} as const;

/** A failure of a cluster, by one of these codes; its cause is kept. */
export class ClusterError extends Error {
  override readonly name = "ClusterError";
  readonly code: keyof typeof clusterErrors;

  constructor(code: keyof typeof clusterErrors, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }

  get retryable(): boolean {
    return clusterErrors[this.code].retryable;
  }
}

/** What was seen of a model. */
export interface Observed {
  /** When the observation began, Unix ms. */
  at: number;
  /** Those that the cluster has or that have been heard of lately, whoever made them. */
  groups: readonly ObservedGroup[];
  /** By revision; left out where it is not known. */
  capacity: Readonly<Record<string, ObservedCapacity>>;
  /** By revision; left out where it is not known: then nothing is decided by it. */
  load: Readonly<Record<string, ObservedLoad>>;
  /** By revision: what `measurementsOf` (rollout-manager.ts) asks for; left out where it is not known. */
  measured: Readonly<Record<string, ObservedMeasures>>;
  /** Undefined where none were ever set. */
  weights: ObservedWeights | undefined;
}

/** A group as it is seen: by the cluster, and by its heartbeat. */
export interface ObservedGroup {
  groupId: string;
  revision: string;
  /** The cluster has it: its objects, or its processes, or the order to start them again. */
  exists: boolean;
  /** It was told to drain, and this is kept where it finds it when it starts again. */
  isDraining: boolean;
  /** Why it will never be ready, where the cluster knows: an image that is not there, for one. */
  failure: string | undefined;
  /** The last one, however long ago; undefined where none is known. */
  heartbeat: Heartbeat | undefined;
}

/** What a group says of itself in Redis. */
export interface Heartbeat {
  /** Unix ms. */
  at: number;
  epoch: number;
  ranks: number;
  slots: number;
  /** Turns that it runs. */
  running: number;
  /** It takes new turns. */
  isAccepting: boolean;
}

/** Of a revision, in groups. */
interface ObservedCapacity {
  /** So many were asked for. */
  asked: number;
  /** For so many there are machines, those that groups have included. */
  there: number;
  /** Why there will be no more, where it is sure: a quota, for one. */
  failure: string | undefined;
}

/** The turns of a revision. */
export interface ObservedLoad {
  /** Asked for and not ended. */
  openTurns: number;
  /** Of them, those that no group runs. */
  waitingTurns: number;
  /** How long the oldest of these has waited; 0 where none does. */
  queueWaitMs: number;
  /** When the last one was asked for, or has ended, Unix ms; undefined where there was none. */
  lastTurnAt: number | undefined;
}

/** How the turns of a revision have gone. */
export interface ObservedMeasures extends Measured {
  /** The turns are those that were asked for since then, Unix ms. */
  since: number;
}

/** The weights that chat picks revisions by. */
export interface ObservedWeights {
  weights: readonly Weight[];
  version: number;
  /** When they were set, Unix ms. */
  setAt: number;
}
