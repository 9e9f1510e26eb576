import { execFile, execFileSync, spawn } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { relaysKey } from "../../events/redis-keys.ts";
import { ops } from "../../functions/ops.ts";
import { RolloutStage } from "../functions/rollout-stage.ts";
import type { Stage } from "../functions/stage.ts";
import {
  axonProgram,
  type InvokedStage,
  invokedStage,
  type Ran,
  runAxon,
} from "../support/axon-command.ts";
import { eventually } from "../support/eventually.ts";

/** The operator's commands as processes of their own, against the function `ops` over Lambda's API. */

let stage: Stage;
let one: RolloutStage;
let env: NodeJS.ProcessEnv;
let local: InvokedStage;
/** Names of the functions that were invoked. */
const invoked: string[] = [];

beforeAll(async () => {
  const { stage: started, fresh } = await RolloutStage.start();
  stage = started;
  one = fresh();
  await one.adopt();
  await one.tellAll(`rollout/${one.model}`);
  const named =
    (name: string) => (event: unknown, context: Parameters<ReturnType<typeof ops>>[1]) => {
      invoked.push(name);
      return ops(one.deps)(event, context);
    };
  local = await invokedStage({ ops: named("ops"), "axon-prod-ops": named("axon-prod-ops") });
  const { folder, endpoint } = local;
  env = { AXON_DATA: folder, AWS_ENDPOINT_URL_LAMBDA: endpoint, AWS_REGION: "us-east-1" };
  Object.assign(env, { AWS_ACCESS_KEY_ID: "local", AWS_SECRET_ACCESS_KEY: "local" });
});
afterAll(async () => {
  await local.stop();
  await stage.close();
});

const axon = (...words: string[]): Promise<Ran> => runAxon(words, env);

test("status, turns, turn, groups and queues, for people and for programs", async () => {
  const turnId = await one.turn(one.revision(1), { end: "completed", firstTokenMs: 120 });
  const [status, turns, turn, groups, queues] = await Promise.all([
    axon("status"),
    axon("turns", "--model", one.model),
    axon("turn", `turn/${turnId}`),
    axon("groups", "--json"),
    axon("queues", "--stage", "prod"),
  ]);
  for (const { code, stderr } of [status, turns, turn, groups, queues]) {
    expect(stderr).toBe("");
    expect(code).toBe(0);
  }
  expect(status.stdout).toContain(`${one.model}: ${one.revision(1)} 100 %`);
  expect(turns.stdout).toMatch(new RegExp(`${turnId} .*completed .* 1 ms +120 ms +11 `));
  expect(turn.stdout).toMatch(/\+0 ms {2}claimed +by .*\n(.*\n)*.*\+120 ms {2}first token/);
  expect(turn.stdout).toMatch(/first token +120 ms {2}█+\n/);
  expect(turns.stdout + turn.stdout).not.toContain("Is it?");
  expect(turns.stdout).not.toContain(String.fromCharCode(27));
  const group = groups.stdout.split("\n").find((line) => line.includes(`${one.revision(1)}-0`));
  expect(JSON.parse(group ?? "")).toMatchObject({ status: "ready", isAccepting: true });
  expect(queues.stdout).toMatch(/^queue .*\n.* jobs .*\n.* reports /);
  expect(invoked).toContain("axon-prod-ops");
});

test("doctor says what is not well, and what to do", async () => {
  await stage.deps.redis.del(relaysKey);
  const { code, stdout } = await axon("doctor", "--stage", "prod");
  expect(code).toBe(1);
  expect(stdout).toMatch(/ok {3}redis +answers in \d+ ms\n/);
  expect(stdout).toMatch(/FAIL relays +none lives\n +Start a relay/);
  await stage.deps.redis.zadd(relaysKey, one.time, "relay_a");
  const well = await axon("doctor", "--stage", "prod", "--json");
  const checks = well.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as object);
  expect(checks).toContainEqual(expect.objectContaining({ name: "relays", isWell: true }));
  expect(checks).toContainEqual(expect.objectContaining({ name: "postgresql", isWell: true }));
  expect(well.code).toBe(0);
});

test("the log is filtered, and followed as it grows", async () => {
  const turnId = await one.turn(one.revision(1), { end: "completed" });
  const shown = await axon("log", "--all", `turn/${turnId}`, "--json");
  const commits = shown.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as object);
  expect(commits).toMatchObject([{ version: 1 }, { version: 2 }, { version: 3 }]);
  const sinceThen = await axon("log", "--all", `turn/${turnId}`, "--since", "10m");
  expect(sinceThen.stdout).toMatch(/ v1\n[\s\S]* v2\n[\s\S]* v3\n/);
  const earlier = await axon("log", "--all", `turn/${turnId}`, "--before", "10m");
  expect(earlier).toMatchObject({ code: 0, stdout: "" });
  const args = [axonProgram, "log", "--follow", "turn/", "--type", "TurnStarted", "--json"];
  const following = spawn(process.execPath, args, { env: { ...process.env, ...env } });
  let text = "";
  following.stdout.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  await eventually(() => text.includes(turnId), 20_000);
  const next = await one.turn(one.revision(1), { end: "started" });
  await eventually(() => text.includes(next), 20_000);
  following.kill("SIGINT");
  expect(text.split(next)).toHaveLength(3);
  expect(text).not.toContain("TurnRequested");
});

test("whoever reads only the beginning ends a command without a word", async () => {
  const command = `"${process.execPath}" "${axonProgram}" doctor --json | head -n 1; echo "\${PIPESTATUS[0]}"`;
  const options = { env: { ...process.env, ...env }, encoding: "utf8" as const };
  const result = await promisify(execFile)("bash", ["-c", command], options);
  expect(result.stdout).toMatch(/^\{"name":"node".*\n141\n$/);
  expect(result.stderr).toBe("");
});

test.each([
  [["turns", "--foo"], 2, /turns: Unknown option '--foo'\. Try axon turns --help/],
  [["turns", "more"], 2, /"more" is one word too many/],
  [["turns", "--limit", "some"], 2, /--limit takes a number/],
  [["turns", "--before", "x"], 1, /is no cursor of this list/],
  [["turn"], 2, /Name the turn/],
  [["turn", "turn_none"], 1, /There is no turn turn_none/],
  [["groups", "rotate", "none"], 1, /There is no group none/],
  [["log", "--all", "--before", "x"], 2, /--before takes a time .*, not "x"/],
  [["rollout"], 2, /Say what to do/],
  [["rollout", "stop"], 2, /There is no "axon rollout stop"/],
  [
    ["keys", "create", "--name", "a", "--scopes", "chat,all"],
    2,
    /--scopes takes chat, .*, not "all"/,
  ],
  [["what"], 2, /no command "what"/],
  [["status", "--stage", "none"], 3, /axon-none-ops cannot be asked/],
])("%j ends with %i", async (args, code, message) => {
  const result = await axon(...args);
  expect(result.stderr).toMatch(message);
  expect(result).toMatchObject({ code, stdout: "" });
});

test("the completion is made of what commands declare, and the shell takes it", async () => {
  const { stdout } = await axon("completion", "bash");
  const asked = `${stdout}\nCOMP_WORDS=(axon groups ro); COMP_CWORD=2; _axon; echo "\${COMPREPLY[@]}"`;
  expect(execFileSync("bash", ["-c", asked]).toString()).toBe("rotate\n");
  expect((await axon("completion", "zsh")).stdout).toContain("compdef _axon axon");
  expect((await axon("completion", "fish")).stdout).toMatch(
    /seen_subcommand_from log' -l follow\n/,
  );
});
