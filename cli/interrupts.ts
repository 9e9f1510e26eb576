/**
 * One Ctrl-C reaches a command up to three times: from the terminal, from npx and from axon.mjs, which hand on what
 * they get. All of that comes within some milliseconds; nobody presses twice in so short a time.
 */
const onePressMs = 300;

/**
 * Hears each Ctrl-C once.
 * @returns what ends that.
 */
export function onInterrupt(
  pressed: () => void,
  { source = process, now = () => performance.now() }: InterruptOptions = {},
): () => void {
  let lastAt = Number.NEGATIVE_INFINITY;
  const heard = () => {
    const isSamePress = now() - lastAt < onePressMs;
    lastAt = now();
    if (!isSamePress) pressed();
  };
  source.on("SIGINT", heard);
  return () => source.off("SIGINT", heard);
}

interface InterruptOptions {
  source?: Pick<NodeJS.EventEmitter, "on" | "off">;
  /** Milliseconds on a clock that only rises. */
  now?: () => number;
}
