/**
 * What a log line may say about a failure. Errors carry more than that: ioredis adds the command with
 * its arguments, pg the row, and JSON.parse quotes what it could not read; all of it may be someone's
 * prompt or answer.
 */
export function failureForLog(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { type: typeof error };
  const { name, message, stack, cause } = error;
  const { code } = error as { code?: unknown };
  const frames = stack?.split("\n").filter((line) => /^\s+at /.test(line));
  return {
    name,
    message: wordless(error) ?? withoutArguments(message),
    ...(typeof code === "string" && { code }),
    stack: frames?.map((line) => line.trim()),
    ...(cause !== undefined && { cause: failureForLog(cause) }),
  };
}

/** Redis quotes the arguments of a command that it does not know. */
function withoutArguments(message: string): string {
  return message.replace(/,? with args beginning with:.*/s, "");
}

/** The message of an error that would quote what it could not read; undefined of any other. */
function wordless(error: Error): string | undefined {
  if (error instanceof SyntaxError) return "The text is not valid JSON.";
  const { issues } = error as { issues?: readonly { code: string; path: readonly unknown[] }[] };
  if (!Array.isArray(issues)) return undefined;
  const places = issues.slice(0, 5).map(({ code, path }) => `${path.join(".")}: ${code}`);
  return `It has not got the shape that it should have. ${places.join("; ")}`;
}
