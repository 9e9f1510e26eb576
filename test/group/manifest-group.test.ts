import { join } from "node:path";
import type { V1Container, V1PodTemplateSpec } from "@kubernetes/client-node";
import { expect, test } from "vitest";
import { leaderWorkerSet } from "../../cluster/objects/leader-worker-set.ts";
import { deploymentOf, machineOf, settings } from "../cluster/deployments.ts";
import { eventually } from "../support/eventually.ts";
import { freePort, groupSettings, probe, startLeader, startProgram } from "./group-processes.ts";

/**
 * A group of the embedded engine on two nodes, by what its manifest says: the commands and the variables of
 * its containers, on this machine.
 */

const { deployment, revision } = deploymentOf({
  engine: { kind: "embedded", weights: "int8" },
  instanceType: "c7i.8xlarge",
  nodes: 2,
  tensorParallel: 2,
  pipelineParallel: 1,
  contextTokens: 256,
});
const model = join(import.meta.dirname, "..", "..", "models", "axon-guide");

const mainContainer = (template: V1PodTemplateSpec | undefined): V1Container => {
  const [container] = template?.spec?.containers ?? [];
  if (container === undefined) throw new Error("The pod has no container.");
  return container;
};

/** What a container is told, as its node would tell it, with the places of this machine. */
function told(text: string, port: number): string {
  return text
    .replace("$(LWS_LEADER_ADDRESS):7010", `127.0.0.1:${port}`)
    .replace("0.0.0.0:7010", `127.0.0.1:${port}`)
    .replace("0.0.0.0:9090", "127.0.0.1:0")
    .replace("$(LWS_WORKER_INDEX)", "1")
    .replace(/^\/model$/, model);
}

const environment = ({ env = [] }: V1Container, port: number) =>
  Object.fromEntries(
    env.flatMap(({ name, value }) => (value === undefined ? [] : [[name, told(value, port)]])),
  );

test("a leader and a rank of two pods become a group that answers its probes", async () => {
  const context = { deployment, revision, settings, machine: machineOf(revision.instanceType) };
  const { leaderTemplate, workerTemplate } = leaderWorkerSet(context).spec.leaderWorkerTemplate;
  const port = await freePort();
  const secret = { AXON_GROUP_SECRET: "what both pods have from the secret" };
  const rank = mainContainer(workerTemplate);
  // The rank comes first, and waits.
  const running = startProgram(
    (rank.args ?? []).map((text) => told(text, port)),
    secret,
  );
  const { AXON_FOLLOWERS: none, ...env } = environment(mainContainer(leaderTemplate), port);
  expect(none).toBe(undefined);
  const leader = await startLeader(await groupSettings(), {
    AXON_FOLLOWERS: "0",
    ...env,
    ...secret,
  });
  const url = await leader.probes();
  await eventually(async () => (await probe(`${url}/ready`)).status === 200);
  expect(running.output()).toContain("has joined the group of 2");

  running.child.kill("SIGKILL");
  expect(await leader.ended).toBe(1);
  expect(leader.output()).toContain("the group has failed");
});
