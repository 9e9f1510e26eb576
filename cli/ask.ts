import { createInterface, type Interface, type ReadLineOptions } from "node:readline/promises";

/** Where is asked and answered: the terminal of the command, but for tests. */
type Terminal = Pick<ReadLineOptions, "input" | "output" | "terminal">;

const ownTerminal = (): Terminal => ({ input: process.stdin, output: process.stderr });

/** Asks one question. Returns the answer; "" at the end of the input (Ctrl-D), and undefined at Ctrl-C. */
export async function ask(
  question: string,
  terminal: Terminal = ownTerminal(),
): Promise<string | undefined> {
  const lines = createInterface(terminal);
  const stop = new AbortController();
  lines.on("SIGINT", () => stop.abort());
  try {
    return await lines.question(question, { signal: stop.signal });
  } catch (error) {
    if (!(error instanceof Error && error.name === "AbortError")) throw error;
    terminal.output?.write("\n");
    return stop.signal.aborted ? undefined : "";
  } finally {
    lines.close();
  }
}

/** Readline takes Ctrl-C from the terminal's keyboard for itself: it becomes the signal that it is elsewhere. */
const interruptProcess = () => void process.emit("SIGINT", "SIGINT");

/**
 * Has line after line answered, until an empty one, the end of the input, or an `answer` that is false. Ctrl-C is
 * handed to whoever answers; where nobody does it is the end, too.
 * @returns whether it was Ctrl-C that ended it.
 */
export async function askOnAndOn(
  answer: (line: string) => Promise<boolean>,
  terminal: Terminal = ownTerminal(),
  interrupt: () => void = interruptProcess,
): Promise<{ isInterrupted: boolean }> {
  const lines = createInterface({ ...terminal, prompt: "› " });
  const state = { isAnswering: false, isClosed: false, isInterrupted: false };
  lines.on("close", () => {
    state.isClosed = true;
  });
  lines.on("SIGINT", () => {
    if (state.isAnswering) return interrupt();
    state.isInterrupted = true;
    lines.close();
  });
  lines.prompt();
  await answerEach(lines, state, answer);
  lines.close();
  if (state.isInterrupted) terminal.output?.write("\n");
  return { isInterrupted: state.isInterrupted };
}

async function answerEach(
  lines: Interface,
  state: { isAnswering: boolean; isClosed: boolean },
  answer: (line: string) => Promise<boolean>,
): Promise<void> {
  for await (const line of lines) {
    if (line.trim() === "") return;
    state.isAnswering = true;
    const goesOn = await answer(line);
    state.isAnswering = false;
    if (!goesOn) return;
    // The input may have ended during the answer, with more lines in it.
    if (!state.isClosed) lines.prompt();
  }
}
