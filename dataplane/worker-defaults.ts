/**
 * Tokens that one step of the embedded engine computes at most: a longer prompt is read in pieces of
 * this size, or of a quarter of it while answers are running, which go on in between.
 */
export const tokensPerStep = 256;
