/**
 * How leaders hold their turns. A lease is renewed every `renewalMs`, and one that was not for `leaseMs`
 * belongs to whoever claims the turn next; leaders with a free slot look for such turns every `lookMs`.
 * So a dead leader's turn goes on in at most leaseMs + lookMs, and one renewal may be late without harm.
 */
export const leaseMs = 2_400;
export const renewalMs = 1_000;
export const lookMs = 250;
