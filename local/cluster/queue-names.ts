/** Each revision has a queue of its own, beside those of the others. */

/** The queue's name. */
export const queueOf = (revision: string): string => `jobs-${revision}`;

/** The address of a revision's queue, by that of another's in the same account. */
export function queueUrlOf(otherQueueUrl: string, revision: string): string {
  return otherQueueUrl.replace(/[^/]*$/, queueOf(revision));
}
