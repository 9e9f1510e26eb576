/** Escapes of ECMA-48 for whoever reads at a terminal. */
const codes = { red: 31, green: 32, yellow: 33, dim: 2, bold: 1 } as const;

/** Colours on a terminal only, and not where NO_COLOR is set (https://no-color.org). */
const isColourful = process.stdout.isTTY === true && !process.env["NO_COLOR"];

export function paint(text: string, colour: keyof typeof codes): string {
  return isColourful ? `\u001b[${codes[colour]}m${text}\u001b[0m` : text;
}

const ofStatus: Record<string, keyof typeof codes> = {
  ready: "green",
  completed: "green",
  failed: "red",
  gone: "red",
  silent: "red",
  forming: "yellow",
  draining: "yellow",
  requested: "yellow",
};

/** A row of a table, coloured by what it is about. */
export const paintRow = (row: string, status: string): string => {
  const colour = ofStatus[status];
  return colour === undefined ? row : paint(row, colour);
};
