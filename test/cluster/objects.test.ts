import type { V1Container, V1PodSpec, V1PodTemplateSpec } from "@kubernetes/client-node";
import { describe, expect, test } from "vitest";
import { stringify } from "yaml";
import type { leaderWorkerSet } from "../../cluster/objects/leader-worker-set.ts";
import { baseObjects, type KubernetesObject } from "../../cluster/objects/objects.ts";
import { gracePeriodSeconds, patience } from "../../cluster/objects/settings.ts";
import { followerConfig, relayConfig, workerConfig } from "../../dataplane/config.ts";
import { deploymentOf, groupObjects, groups, machineOf, settings } from "./deployments.ts";
import { complaints } from "./schemas.ts";

const objectsOf = (name: string) => groupObjects(groups[name] ?? deploymentOf({}));
const setOf = (name: string) => {
  const set = objectsOf(name).find((object) => object.kind === "LeaderWorkerSet");
  if (set === undefined) throw new Error("There is no LeaderWorkerSet.");
  return set as ReturnType<typeof leaderWorkerSet>;
};
const podsOf = (name: string): { leader: V1PodSpec; follower: V1PodSpec } => {
  const { leaderTemplate, workerTemplate } = setOf(name).spec.leaderWorkerTemplate;
  // Without a template of its own the leader is the only pod.
  const specOf = ({ spec }: V1PodTemplateSpec): V1PodSpec => spec ?? { containers: [] };
  return { leader: specOf(leaderTemplate ?? workerTemplate), follower: specOf(workerTemplate) };
};
const containersOf = ({ initContainers = [], containers }: V1PodSpec): V1Container[] => [
  ...initContainers,
  ...containers,
];
function container(pod: V1PodSpec, name: string): V1Container {
  const found = containersOf(pod).find((one) => one.name === name);
  if (found === undefined) throw new Error(`There is no container ${name}.`);
  return found;
}
/** The value of an option in a command, or whether it is there. */
const option = (command: readonly string[] = [], name: string) =>
  command[command.indexOf(name) + 1 || command.length];
const variable = ({ env = [] }: V1Container, name: string) =>
  env.find((one) => one.name === name)?.value;

/** What a container's environment is at run time, as far as objects decide it. */
function environment(pod: V1Container, objects: KubernetesObject[]): Record<string, string> {
  const maps = objects.flatMap((object) => ("data" in object && object.data ? [object.data] : []));
  const constant = (pod.env ?? []).map(({ name, value }) => [name, value ?? "axon-test-0"]);
  const lws = (value: string) => value.replace("$(LWS_WORKER_INDEX)", "1");
  return {
    REDIS_URL: "rediss://redis:6379",
    ...Object.assign({}, ...maps),
    ...Object.fromEntries(constant.map(([name, value = ""]) => [name, lws(value)])),
  };
}

const allGroups = Object.keys(groups);

describe("what an API server would say", () => {
  test.each(allGroups)("of the group %s: nothing", (name) => {
    expect(objectsOf(name).flatMap(complaints)).toEqual([]);
  });

  test.each([false, true])("of the base, front door %s: nothing", (frontDoor) => {
    const { deployment } = deploymentOf({}, { relays: { count: 3, frontDoor } });
    expect(baseObjects(deployment, settings, { machineOf }).flatMap(complaints)).toEqual([]);
  });

  test("of objects with mistakes: each of them", () => {
    const set = structuredClone(setOf("two-nodes"));
    const mistakes = { terminationGracePeriod: 5, hostNetwork: "no" };
    Object.assign(set.spec.leaderWorkerTemplate.workerTemplate.spec ?? {}, mistakes);
    expect(complaints(set)).toHaveLength(2);
    const [, relay] = baseObjects(deploymentOf({}).deployment, settings, { machineOf }).filter(
      ({ kind }) => kind === "ConfigMap" || kind === "Deployment",
    );
    expect(complaints({ ...relay, spec: { replicas: "2" } }).length).toBeGreaterThan(1);
  });
});

describe("manifests", () => {
  test.each(allGroups)("of the group %s are as they were", async (name) => {
    const text = objectsOf(name)
      .map((object) => stringify(object, { aliasDuplicateObjects: false }))
      .join("---\n");
    await expect(text).toMatchFileSnapshot(`golden/${name}.yaml`);
  });

  test("of the base are as they were", async () => {
    const { deployment } = deploymentOf({}, { relays: { count: 2, frontDoor: true } });
    const text = baseObjects(deployment, settings, { machineOf })
      .map((object) => stringify(object, { aliasDuplicateObjects: false }))
      .join("---\n");
    await expect(text).toMatchFileSnapshot("golden/base.yaml");
  });
});

describe("a group of vLLM", () => {
  test("has its nodes, its GPUs, and EFA only where it spans nodes", () => {
    expect(setOf("four-nodes").spec.leaderWorkerTemplate.size).toBe(4);
    const limits = (name: string) => container(podsOf(name).leader, "vllm").resources?.limits;
    expect(limits("one-node")).toMatchObject({ "nvidia.com/gpu": "8" });
    expect(limits("one-node")).not.toHaveProperty("vpc.amazonaws.com/efa");
    expect(limits("two-nodes")).toMatchObject({
      "nvidia.com/gpu": "8",
      "vpc.amazonaws.com/efa": "4",
      "hugepages-2Mi": "5120Mi",
    });
  });

  test("leaves no GPU beyond its share", () => {
    const half = deploymentOf({ nodes: 2, tensorParallel: 4, pipelineParallel: 2 });
    const set = groupObjects(half).at(-1);
    expect(JSON.stringify(set)).toContain('"nvidia.com/gpu":"4","vpc.amazonaws.com/efa":"2"');
    const uneven = deploymentOf({ nodes: 3, tensorParallel: 8, pipelineParallel: 2 });
    expect(() => groupObjects(uneven)).toThrow(/5.33.* a node; p4d.24xlarge has 8/);
  });

  test("tells all nodes the same of the model, and each which one it is", () => {
    const { leader, follower } = podsOf("two-nodes");
    const commands = [container(leader, "vllm").command, container(follower, "vllm").command];
    for (const command of commands) {
      expect(option(command, "serve")).toBe("s3://axon-models/llama-3-70b-instruct/1");
      expect(option(command, "--tensor-parallel-size")).toBe("8");
      expect(option(command, "--pipeline-parallel-size")).toBe("2");
      expect(option(command, "--nnodes")).toBe("2");
      expect(option(command, "--node-rank")).toBe("$(LWS_WORKER_INDEX)");
      expect(option(command, "--master-addr")).toBe("$(LWS_LEADER_ADDRESS)");
      expect(option(command, "--distributed-executor-backend")).toBe("mp");
    }
    expect(commands[0]).not.toContain("--headless");
    expect(commands[1]).toContain("--headless");
    expect(commands[1]).not.toContain("--port");
  });

  test("never shows its API outside of the leader's pod", () => {
    for (const name of allGroups) {
      for (const pod of Object.values(podsOf(name))) {
        for (const { ports = [], command } of containersOf(pod)) {
          expect(ports.map(({ containerPort }) => containerPort)).not.toContain(8_000);
          if (command?.includes("--port")) expect(option(command, "--host")).toBe("127.0.0.1");
        }
      }
      const kinds = objectsOf(name).map(({ kind }) => kind);
      expect(kinds).not.toContain("Service");
    }
  });

  test("ends in order: the worker first, then the engine, within the grace period", () => {
    for (const name of ["one-node", "two-nodes", "two-nodes-ray"]) {
      for (const pod of Object.values(podsOf(name))) {
        expect(pod.initContainers?.at(-1)).toMatchObject({ name: "vllm", restartPolicy: "Always" });
        expect(pod.containers).toHaveLength(1);
        expect(pod.terminationGracePeriodSeconds).toBe(gracePeriodSeconds);
      }
    }
    const { leader, follower } = podsOf("two-nodes");
    const drain = Number(variable(container(leader, "worker"), "AXON_DRAIN_MS")) / 1_000;
    const shutdown = Number(option(container(leader, "vllm").command, "--shutdown-timeout"));
    expect(gracePeriodSeconds).toBeGreaterThan(drain + shutdown);
    const stays = Number(variable(container(follower, "follower"), "AXON_DRAIN_MS")) / 1_000;
    expect(stays).toBeGreaterThan(drain);
    expect(stays + patience.engineShutdown).toBeLessThanOrEqual(gracePeriodSeconds);
  });

  test("starts as a whole, and again as a whole", () => {
    const { spec } = setOf("two-nodes");
    expect(spec.leaderWorkerTemplate.restartPolicy).toBe("RecreateGroupOnPodRestart");
    // The other policy waits for a leader that waits for its followers.
    expect(spec.startupPolicy).toBe("LeaderCreated");
  });

  test("is watched: by progress, by its followers, by its network", () => {
    const { leader, follower } = podsOf("two-nodes");
    const worker = container(leader, "worker");
    expect(worker.livenessProbe?.httpGet?.path).toBe("/live");
    expect(worker.readinessProbe?.httpGet?.path).toBe("/ready");
    expect(variable(worker, "AXON_FOLLOWERS")).toBe("1");
    expect(follower.shareProcessNamespace).toBe(true);
    for (const [pod, name] of [
      [leader, "worker"],
      [follower, "follower"],
    ] as const) {
      const folder = variable(container(pod, name), "AXON_NCCL_LOGS");
      expect(variable(container(pod, "vllm"), "NCCL_DEBUG_FILE")).toContain(folder);
      const mounts = [container(pod, name), container(pod, "vllm")].map(({ volumeMounts = [] }) =>
        volumeMounts.some(({ mountPath }) => mountPath === folder),
      );
      expect(mounts).toEqual([true, true]);
    }
    expect(variable(container(podsOf("one-node").leader, "worker"), "AXON_NCCL_LOGS")).toBe(
      undefined,
    );
  });

  test("by Ray starts the head and joins it", () => {
    const { leader, follower } = podsOf("two-nodes-ray");
    expect(container(leader, "vllm").command?.slice(0, 3).join(" ")).toContain("ray start --head");
    expect(container(leader, "vllm").command).not.toContain("--nnodes");
    expect(container(follower, "vllm").command?.at(-1)).toContain("--block");
    const watch = new RegExp(variable(container(follower, "follower"), "AXON_WATCH") ?? "");
    expect(watch.test("/usr/lib/ray/core/src/ray/raylet/raylet --raylet_socket_name=x")).toBe(true);
    expect(watch.test("ray::RayWorkerWrapper.execute_method")).toBe(true);
    expect(watch.test("/bin/sh -c until ray health-check --address a:6379; do sleep 2; done")).toBe(
      false,
    );
  });
});

/** Those of `vllm serve` in version 0.32 that objects may use: vllm/engine/arg_utils.py and its API server. */
const vllmOptions = new Set(
  `--served-model-name --load-format --model-loader-extra-config --tensor-parallel-size
  --pipeline-parallel-size --max-model-len --max-num-seqs --gpu-memory-utilization --dtype
  --shutdown-timeout --distributed-executor-backend --nnodes --node-rank --master-addr --master-port
  --headless --host --port`.split(/\s+/),
);

test("no option is given to vLLM that it does not know, nor one twice", () => {
  for (const name of allGroups) {
    for (const pod of Object.values(podsOf(name))) {
      const command = containersOf(pod).find((one) => one.name === "vllm")?.command ?? [];
      const options = command.filter((word) => word.startsWith("--"));
      expect(options.filter((word) => !vllmOptions.has(word))).toEqual([]);
      expect(new Set(options).size).toBe(options.length);
    }
  }
});

describe("what our processes are told", () => {
  test("the worker's environment is complete, whatever the engine is", () => {
    for (const name of allGroups) {
      const env = environment(container(podsOf(name).leader, "worker"), objectsOf(name));
      const secret = { AXON_GROUP_SECRET: "of the secret axon-group" };
      // vLLM has the model by itself.
      const config = workerConfig({ AXON_MODEL_DIR: "/none", ...env, ...secret });
      expect(config).toMatchObject({ AXON_REVISION: "llama-3-70b-instruct-1", AXON_SLOTS: 64 });
      expect(config.AXON_PROBES).toEqual({ host: "0.0.0.0", port: 9_090 });
    }
  });

  test("so are the follower's and the relay's", () => {
    const follower = container(podsOf("two-nodes").follower, "follower");
    expect(followerConfig(environment(follower, []))).toMatchObject({ AXON_RANK: 1 });
    const { deployment } = deploymentOf({}, { relays: { count: 2, frontDoor: true } });
    const base = baseObjects(deployment, settings, { machineOf });
    const relay = base.find(({ kind }) => kind === "Deployment") as {
      spec: { template: { spec: V1PodSpec } };
    };
    const env = environment(container(relay.spec.template.spec, "relay"), base);
    expect(relayConfig(env)).toMatchObject({ RELAY_LISTEN: { port: 8_080 } });
  });
});

describe("who may do what", () => {
  test("our containers are confined, and no pod has a token of Kubernetes", () => {
    const { deployment } = deploymentOf({});
    const base = baseObjects(deployment, settings, { machineOf });
    const relay = base.find(({ kind }) => kind === "Deployment") as {
      spec: { template: { spec: V1PodSpec } };
    };
    const pods = [
      ...allGroups.flatMap((name) => Object.values(podsOf(name))),
      relay.spec.template.spec,
    ];
    for (const pod of pods) {
      expect(pod).toMatchObject({ automountServiceAccountToken: false, enableServiceLinks: false });
      for (const one of containersOf(pod).filter(({ image }) => image === settings.image)) {
        expect(one.securityContext).toMatchObject({
          runAsNonRoot: true,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
        });
      }
    }
  });

  test("the rollout has no verb and no resource of all", () => {
    const role = baseObjects(deploymentOf({}).deployment, settings, { machineOf }).find(
      ({ kind }) => kind === "Role",
    );
    expect(JSON.stringify(role)).not.toContain("*");
    expect(JSON.stringify(role)).not.toContain("secrets");
  });

  test("groups that span nodes talk within themselves, each by a policy of its own", () => {
    const policies = objectsOf("two-nodes").filter(({ kind }) => kind === "NetworkPolicy");
    const set = "axon-llama-3-70b-instruct-1-7";
    expect(policies.map(({ metadata }) => metadata?.name)).toEqual([set]);
    const members = { podSelector: { matchLabels: { "leaderworkerset.sigs.k8s.io/name": set } } };
    expect(policies[0]).toMatchObject({
      spec: { ...members, ingress: [{ from: [members] }], egress: [{ to: [members] }] },
    });
    expect(setOf("two-nodes").metadata.name).toBe(set);
    expect(objectsOf("one-node").map(({ kind }) => kind)).not.toContain("NetworkPolicy");
  });
});

test("groups on reserved machines stay in the zone of the reservation", () => {
  const capacity = { kind: "reservation", id: "cr-0a", zone: "us-east-1b" } as const;
  const selectorOf = (changes: Parameters<typeof deploymentOf>[0]) => {
    return JSON.stringify(groupObjects(deploymentOf(changes, { capacity })));
  };
  expect(selectorOf({})).toContain('"topology.kubernetes.io/zone":"us-east-1b"');
  const { engine, instanceType, nodes, tensorParallel, pipelineParallel } =
    groups["embedded-two-nodes"]?.revision ?? {};
  const cpu = { engine, instanceType, nodes, tensorParallel, pipelineParallel };
  expect(selectorOf(cpu as Parameters<typeof deploymentOf>[0])).not.toContain("us-east-1b");
});

test("a group is on the nodes of its own node group, and on no others", () => {
  for (const pod of Object.values(podsOf("two-nodes"))) {
    expect(pod.nodeSelector).toMatchObject({
      "eks.amazonaws.com/nodegroup": "axon-llama-3-70b-instruct-1-0",
    });
  }
});

test("the embedded engine over nodes has one rank a node", () => {
  const uneven = deploymentOf({
    engine: { kind: "embedded", weights: "int8" },
    instanceType: "c7i.8xlarge",
    nodes: 2,
    tensorParallel: 4,
    pipelineParallel: 1,
  });
  expect(() => groupObjects(uneven)).toThrow(/tensorParallel has to be 2/);
});

test("no revision is called as the groups of another are", () => {
  const { deployment, revision } = deploymentOf({});
  const named = (...names: string[]) => {
    const revisions = names.map((name) => ({ ...revision, revision: name }));
    const models = deployment.models.map((model) => ({ ...model, revisions }));
    return () => deploymentOf({}, { models });
  };
  expect(named("a-1", "a-2", "a-b")).not.toThrow();
  expect(named("a-1", "a")).toThrow(/models: no revision may be called as another's groups are/);
});
