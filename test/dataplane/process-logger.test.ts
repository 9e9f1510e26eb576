import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { parts } from "../support/parts.ts";

const run = promisify(execFile);

/** What a process of the data plane logs; in one of its own, since the logger writes past the test's console. */
async function logged(code: string): Promise<string> {
  const logger = new URL("../../dataplane/process-logger.ts", import.meta.url).href;
  const program = `import { processLogger } from "${logger}"; const logger = processLogger("test"); ${code}`;
  const args = ["--input-type=module", "--eval", program];
  const { stdout, stderr } = await run(process.execPath, args, { cwd: import.meta.dirname });
  return stdout + stderr;
}

test("a command of Redis that fails is logged without what it was to write", async () => {
  const redis = new Redis(parts().redisUrl);
  // What the logger gets of ioredis.
  const failure = await redis.xadd("traces:test", "1-0", "text", "secret answer").then(
    () => redis.xadd("traces:test", "1-0", "text", "secret answer").catch((error) => error),
    (error: unknown) => error,
  );
  await redis.del("traces:test");
  redis.disconnect();
  expect(JSON.stringify(failure)).toContain("secret answer");

  const { message, command } = failure as { message: string; command: unknown };
  const error = `Object.assign(new Error(${JSON.stringify(message)}), { command: ${JSON.stringify(command)} })`;
  const output = await logged(`
    logger.warn("tokens wait for Redis", { error: ${error}, turnId: "turn_1" });
    logger.error("turn broke off", new Error("outer", { cause: ${error} }));
    try { JSON.parse('secret answer'); } catch (error) { logger.error("unreadable", { error }); }
  `);
  expect(output).not.toContain("secret");
  const [line] = output.split("\n");
  expect(JSON.parse(line ?? "")).toMatchObject({
    ...{ level: "WARN", message: "tokens wait for Redis", turnId: "turn_1" },
    error: { name: "Error", message },
  });
});
