/**
 * Tokens that one step of the embedded engine computes at most: a longer prompt is read in pieces of
 * this size, and running answers go on in between.
 */
export const tokensPerStep = 64;
