import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type KeysOptions, keys } from "../../cli/keys.ts";
import { apiKeyCheck } from "../../functions/lib/credentials/api-key-check.ts";
import { ops } from "../../functions/ops.ts";
import { project } from "../../functions/project.ts";
import { context, type Stage, startStage, tableEvent } from "../functions/stage.ts";
import { type InvokedStage, invokedStage, type Ran, runAxon } from "../support/axon-command.ts";
import { HeardLogger } from "../support/heard-logger.ts";

/** `axon keys` against the function `ops` over Lambda's API. */

let stage: Stage;
let invoked: InvokedStage;
const logger = new HeardLogger();

beforeAll(async () => {
  stage = await startStage();
  invoked = await invokedStage({ ops: ops({ ...stage.deps, logger }) });
});
afterAll(async () => {
  await invoked.stop();
  await stage.close();
});

/** As a process of its own. */
const axon = (...words: string[]): Promise<Ran> =>
  runAxon(["keys", ...words], { AXON_DATA: invoked.folder });

/** What it prints in this process, which is sooner there. */
async function printed(words: string[], options: Partial<KeysOptions> = {}): Promise<string> {
  vi.stubEnv("AXON_DATA", invoked.folder);
  const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  try {
    await keys(words, { json: false, ...options });
    return write.mock.calls.map(([text]) => String(text)).join("");
  } finally {
    write.mockRestore();
    vi.unstubAllEnvs();
  }
}

/** What of keys has been projected is what the list shows. */
const projected = async () =>
  project(stage.deps)(tableEvent(await stage.commits()), context).then(() => undefined);

test("a key is made, used, listed, rotated and revoked", async () => {
  const made = await axon("create", "--name", "batch jobs", "--scopes", "chat", "--expires", "90d");
  expect(made).toMatchObject({ code: 0, stderr: "" });
  const secret = /^axon_\S+/.exec(made.stdout)?.[0] ?? "";
  expect(made.stdout).toMatch(/tenant +local\n/);
  const check = () => apiKeyCheck(stage.deps.log)(secret);
  const { key } = await check();
  const id = key?.keyId ?? "";
  expect(await check()).toMatchObject({
    tenantId: "local",
    userId: "batch jobs",
    scopes: ["chat"],
  });

  const rotated = await printed(["rotate", secret], { grace: "0s", json: true });
  const answer = JSON.parse(rotated);
  expect(answer).toMatchObject({ key: { keyId: id }, secret: expect.stringContaining(id) });
  await expect(check()).rejects.toThrow("was rotated");

  await projected();
  const listed = await printed(["list"], { tenant: "local" });
  expect(listed).toMatch(new RegExp(`\n${id}  local   batch jobs  chat    good`));
  expect(await printed(["revoke", id], { reason: "over" })).toMatch(/status +revoked/);
  await projected();
  const { keys: all } = JSON.parse(await printed(["list"], { json: true }));
  expect(all).toMatchObject([{ keyId: id, status: "revoked" }]);
  for (const made of [secret, answer.secret]) expect(logger.text).not.toContain(made.slice(22));
  expect(logger.text).toContain(id);
});

const none = "0".repeat(16);

test.each<[words: string[], options: Partial<KeysOptions>, problem: RegExp]>([
  [[], {}, /Say what to do/],
  [["make"], {}, /There is no "axon keys make"/],
  [["create"], {}, /Say what it is for/],
  [["create"], { name: "x", scopes: "all" }, /--scopes .*chat/],
  [["create"], { name: "x", expires: "soon" }, /--expires takes a duration/],
  [["rotate"], {}, /Name the key/],
  [["rotate", none], { grace: "90d" }, /--grace/],
  [["revoke", "nonsense"], {}, /ID must be the id of a key/],
  [["revoke", none, "twice"], {}, /one word too many/],
])("axon keys %j %j is not understood, and nothing is asked", async (words, options, problem) => {
  const before = logger.lines.length;
  await expect(printed(words, options)).rejects.toMatchObject({
    ...{ exitCode: 2, message: expect.stringMatching(problem) },
  });
  expect(logger.lines.length).toBe(before);
});

test("what ops refuses is told as it says it", async () => {
  await expect(printed(["revoke", none])).rejects.toMatchObject({
    ...{ exitCode: 1, message: expect.stringContaining("There is no key") },
  });
});
