/**
 * Why a group cannot go on.
 * - `follower_lost`: a follower is gone or has not been heard of.
 * - `superseded`: another leader has a higher epoch of the same group.
 * - `slow_network`: NCCL does not use the fast network between nodes.
 * - `forming_failed`: the group did not get together.
 */
export type GroupErrorCode = "follower_lost" | "superseded" | "slow_network" | "forming_failed";

/** The group is over; whoever runs it forms a new one. */
export class GroupError extends Error {
  override readonly name = "GroupError";
  readonly code: GroupErrorCode;

  constructor(code: GroupErrorCode, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}
