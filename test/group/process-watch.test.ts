import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { followerConfig } from "../../dataplane/config.ts";
import { ProcessWatch } from "../../dataplane/process-watch.ts";
import { eventually } from "../support/eventually.ts";
import { startEngineProcess } from "./group-processes.ts";

test("processes are known by their command line; the first that is gone is named", async () => {
  const name = `axon-engine-${randomBytes(6).toString("hex")}`;
  const watch = new ProcessWatch(new RegExp(`^${name}\\w*`));
  expect(watch.look(false)).toBe("none");
  const first = startEngineProcess(`${name}_TP0`);
  const second = startEngineProcess(`${name}_TP1`);
  await eventually(() => watch.look(false) === "alive");
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect([watch.look(false), watch.look(true)]).toEqual(["alive", "alive"]);
  first.child.kill("SIGSTOP");
  await eventually(() => typeof watch.look(true) !== "string");
  expect(watch.look(true)).toEqual({ gone: `${name}_TP0 (process ${first.pid}) is stopped` });
  first.child.kill("SIGCONT");
  await eventually(() => watch.look(true) === "alive");
  first.child.kill("SIGKILL");
  await first.ended;
  expect(watch.look(true)).toMatchObject({ gone: expect.stringContaining(`${name}_TP0`) });
  // While an engine starts, what has ended is forgotten.
  expect(watch.look(false)).toBe("alive");
  second.child.kill("SIGKILL");
  await second.ended;
  expect(watch.look(false)).toBe("none");
});

test("a process that fits for a moment only is none of them", async () => {
  const name = `axon-engine-${randomBytes(6).toString("hex")}`;
  const watch = new ProcessWatch(new RegExp(`^${name}`));
  const brief = startEngineProcess(name);
  expect(watch.look(true)).toBe("none");
  brief.child.kill("SIGKILL");
  await brief.ended;
  expect(watch.look(true)).toBe("none");
});

test.each([
  ["/usr/bin/python3 /usr/local/bin/vllm serve s3://models/70b --headless", true],
  ["VLLM::Worker_TP3_PP1", true],
  ["VLLM::EngineCore", false],
  ["/usr/bin/python3 -c from multiprocessing.resource_tracker import main;main(34)", false],
  ["node /app/dataplane/follower.ts", false],
])("by default %s is watched: %s", (command, isWatched) => {
  const config = { REDIS_URL: "redis://r", AXON_GROUP_ID: "g-0", AXON_RANK: "1" };
  expect(followerConfig(config).AXON_WATCH.test(command)).toBe(isWatched);
});
