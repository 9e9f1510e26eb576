import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ClusterError } from "../../events/cluster-port.ts";
import { cluster as provided } from "../../functions/lib/eks/cluster.ts";
import { provide } from "../../functions/lib/provider.ts";
import { machineOf, settings } from "../cluster/deployments.ts";
import { clusterPortContract } from "./cluster-port.contract.ts";
import { clusterOfToken, deployment, type EksUnderTest, paths, startEks } from "./eks-harness.ts";
import type { EksFault } from "./eks-stub.ts";
import type { Fault } from "./kubernetes-stub.ts";

describe("EKS as a cluster", () => {
  clusterPortContract(startEks);
});

describe("EKS", () => {
  let cluster: EksUnderTest;
  beforeEach(async () => {
    cluster = await startEks();
  });
  afterEach(() => cluster.close());

  const model = "llama";
  const ensure = (groups: number, basis = 1) =>
    cluster.port.follow({ type: "EnsureCapacity", model, revision: "r1", groups, basis });
  const create = (groupId: string) =>
    cluster.port.follow({ type: "CreateGroup", model, revision: "r1", groupId });
  const end = async (groupId: string) => {
    await cluster.port.follow({ type: "DrainGroup", model, revision: "r1", groupId });
    await cluster.port.follow({ type: "DeleteGroup", model, revision: "r1", groupId });
  };
  const failureOf = async (call: Promise<unknown>) => {
    const error = await call.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(ClusterError);
    const { code, retryable } = error as ClusterError;
    return { code, retryable };
  };

  test("a group's objects name it, and stand on the nodes of one node group", async () => {
    await ensure(2);
    await create("r1-4");
    const [set] = cluster.kubernetes.find(paths.sets);
    const [policy] = cluster.kubernetes.find(paths.policies);
    expect(set?.metadata).toMatchObject({
      name: "axon-r1-4",
      labels: {
        "axon/group": "r1-4",
        "axon/model": "llama",
        "eks.amazonaws.com/nodegroup": "axon-r1-0",
      },
    });
    expect(policy?.metadata.name).toBe("axon-r1-4");
    const text = JSON.stringify(set);
    expect(text).toContain('{"name":"AXON_GROUP_ID","value":"r1-4"}');
    expect(text).not.toContain("metadata.name");
    expect(text.match(/"eks.amazonaws.com\/nodegroup":"axon-r1-0"/g)).toHaveLength(3);
    expect(set?.["spec"]).toMatchObject({ replicas: 1, leaderWorkerTemplate: { size: 2 } });
    await end("r1-4");
    expect(cluster.kubernetes.find(paths.policies)).toEqual([]);
  });

  test("two groups never share a node group, also when they are created at the same time", async () => {
    await ensure(2);
    const results = await Promise.allSettled([create("r1-0"), create("r1-1")]);
    for (const [i, result] of results.entries()) {
      if (result.status === "fulfilled") continue;
      expect(result.reason).toMatchObject({ code: "conflict", retryable: true });
      await create(`r1-${i}`);
    }
    const on = cluster.kubernetes
      .find(paths.sets)
      .map(({ metadata }) => metadata.labels?.["eks.amazonaws.com/nodegroup"]);
    expect(on.sort()).toEqual(["axon-r1-0", "axon-r1-1"]);
    // A third has no machines, and is asked for again.
    expect(await failureOf(create("r1-2"))).toEqual({ code: "unavailable", retryable: true });
  });

  test("the node group of a group that stays is kept, whichever it is", async () => {
    await ensure(2);
    await create("r1-0");
    await create("r1-1");
    await end("r1-0");
    await expect.poll(async () => (await cluster.port.observe(model)).groups.length).toBe(1);
    await ensure(1, 2);
    expect(cluster.eks.nodeGroups.get("axon-r1-0")?.desiredSize).toBe(0);
    expect(cluster.eks.nodeGroups.get("axon-r1-1")?.desiredSize).toBe(2);
  });

  test("what was changed by hand shows as other than it was asked for", async () => {
    await ensure(1);
    const nodeGroup = cluster.eks.nodeGroups.get("axon-r1-0");
    if (nodeGroup !== undefined) nodeGroup.desiredSize = 0;
    expect((await cluster.port.observe(model)).capacity["r1"]?.asked).toBe(0);
    await ensure(1);
    expect((await cluster.port.observe(model)).capacity["r1"]?.asked).toBe(1);
  });

  test("an image that cannot be had is told as the group's failure", async () => {
    await ensure(1);
    await create("r1-0");
    const pod = (waiting: object) => ({
      ...{ apiVersion: "v1", kind: "Pod" },
      metadata: {
        name: "axon-r1-0-0",
        labels: { "leaderworkerset.sigs.k8s.io/name": "axon-r1-0" },
      },
      status: { containerStatuses: [{ name: "worker", state: { waiting } }] },
    });
    cluster.kubernetes.put(paths.pods, "axon-r1-0-0", pod({ reason: "CrashLoopBackOff" }));
    expect((await cluster.port.observe(model)).groups[0]?.failure).toBeUndefined();
    const reason = "ImagePullBackOff";
    cluster.kubernetes.put(paths.pods, "axon-r1-0-0", pod({ reason, message: "not found" }));
    expect((await cluster.port.observe(model)).groups[0]?.failure).toMatch(
      /ImagePullBackOff of worker in axon-r1-0-0: not found/,
    );
  });

  test.each([
    [
      "InstanceLimitExceeded",
      "You have reached the vCPU limit",
      /axon-r1-0: InstanceLimitExceeded/,
    ],
    ["AsgInstanceLaunchFailures", "Could not launch: VcpuLimitExceeded", /VcpuLimitExceeded/],
    ["AsgInstanceLaunchFailures", "InsufficientInstanceCapacity: no p4d now", undefined],
  ])("of a node group's trouble %s, %s", async (code, message, told) => {
    await ensure(1);
    cluster.eks.nodeGroups.get("axon-r1-0")?.issues.push({ code, message });
    const failure = (await cluster.port.observe(model)).capacity["r1"]?.failure;
    if (told === undefined) expect(failure).toBeUndefined();
    else expect(failure).toMatch(told);
  });

  test.each<[string, Fault, string, boolean]>([
    ["a conflict", { status: 409, reason: "Conflict", message: "modified" }, "conflict", true],
    ["403", { status: 403, reason: "Forbidden", message: "cannot list" }, "forbidden", false],
    ["401", { status: 401, reason: "Unauthorized", message: "" }, "forbidden", false],
    [
      "a quota",
      { status: 403, reason: "Forbidden", message: "exceeded quota: gpu" },
      "quota",
      false,
    ],
    ["429", { status: 429, reason: "TooManyRequests", message: "slow down" }, "throttled", true],
    ["500", { status: 500, reason: "InternalError", message: "etcd" }, "unavailable", true],
    ["504", { status: 504, reason: "Timeout", message: "" }, "timeout", true],
    ["422", { status: 422, reason: "Invalid", message: "spec.replicas" }, "rejected", false],
    ["a broken connection", "breaks", "unavailable", true],
    ["silence", "hangs", "timeout", true],
  ])("Kubernetes answers with %s", async (_name, fault, code, retryable) => {
    await ensure(1);
    cluster.kubernetes.fault = (method) =>
      method === "PATCH" || method === "GET" ? fault : undefined;
    expect(await failureOf(create("r1-0"))).toEqual({ code, retryable });
    expect(await failureOf(cluster.port.observe(model))).toEqual({ code, retryable });
    cluster.kubernetes.fault = () => undefined;
    await create("r1-0");
  });

  test.each<[string, EksFault, string, boolean]>([
    [
      "ThrottlingException",
      { status: 429, name: "ThrottlingException", message: "" },
      "throttled",
      true,
    ],
    [
      "AccessDenied",
      { status: 403, name: "AccessDeniedException", message: "" },
      "forbidden",
      false,
    ],
    [
      "an update under way",
      { status: 409, name: "ResourceInUseException", message: "" },
      "conflict",
      true,
    ],
    [
      "a limit",
      { status: 400, name: "ResourceLimitExceededException", message: "" },
      "quota",
      false,
    ],
    [
      "a parameter",
      { status: 400, name: "InvalidParameterException", message: "" },
      "rejected",
      false,
    ],
    ["500", { status: 500, name: "ServerException", message: "" }, "unavailable", true],
    ["503", { status: 503, name: "ServiceUnavailableException", message: "" }, "unavailable", true],
    ["silence", "hangs", "timeout", true],
  ])("EKS answers with %s", async (_name, fault, code, retryable) => {
    cluster.eks.fault = (method) => (method === "POST" ? fault : undefined);
    expect(await failureOf(ensure(1))).toEqual({ code, retryable });
    cluster.eks.fault = () => fault;
    expect(await failureOf(cluster.port.observe(model))).toEqual({ code, retryable });
    // It was noted by which version of the log, and is done when it is asked for again.
    cluster.eks.fault = () => undefined;
    await ensure(1);
    expect((await cluster.port.observe(model)).capacity["r1"]?.asked).toBe(1);
  });

  test("a call that breaks off between two others goes on when it is given again", async () => {
    await ensure(1);
    for (const blocked of ["networkpolicies", "leaderworkersets"]) {
      cluster.kubernetes.fault = (method, path) =>
        path.includes(blocked) && method !== "GET" ? "breaks" : undefined;
      expect(await failureOf(create("r1-0"))).toEqual({ code: "unavailable", retryable: true });
    }
    cluster.kubernetes.fault = () => undefined;
    await create("r1-0");
    expect(cluster.kubernetes.find(paths.sets)).toHaveLength(1);
    expect(cluster.kubernetes.find(paths.policies)).toHaveLength(1);
  });

  test("the calls of a group's life are as they were", async () => {
    await ensure(1);
    await expect
      .poll(async () => (await cluster.port.observe(model)).capacity["r1"]?.there)
      .toBe(1);
    cluster.kubernetes.exchanges.length = 0;
    await create("r1-0");
    await end("r1-0");
    const told = cluster.kubernetes.exchanges.map(
      ({ method, path, contentType, body, status }) => ({
        ...{ request: `${method} ${path}`, contentType, body, status },
      }),
    );
    const text = JSON.stringify(told, undefined, 2).replaceAll(
      /"resourceVersion": "\d+"/g,
      '"resourceVersion": "…"',
    );
    await expect(`${text}\n`).toMatchFileSnapshot("golden/group-life.txt");
  });

  test("its token is an address of STS that is bound to the cluster and soon ends", async () => {
    await cluster.port.observe(model);
    const bad = new Set(["", "k8s-aws-v1.", "k8s-aws-v1.aHR0cHM6Ly9leGFtcGxlLm9yZy8"]);
    for (const token of bad) expect(() => clusterOfToken(token)).toThrow();
    expect(cluster.kubernetes.exchanges.every(({ status }) => status === 200)).toBe(true);
  });

  describe("by the environment of a function", () => {
    const machines = Object.fromEntries(
      ["p4d.24xlarge"].map((name) => [name, machineOf(name)] as const),
    );
    const queues = { r1: settings.queues["r1"] };
    const environment = (more: object = {}) => ({
      AXON_CLUSTER: JSON.stringify({
        ...{ name: "axon-test", deployment, settings: { ...settings, queues }, machines },
        ...more,
      }),
      REDIS_URL: cluster.redisUrl,
      LOG_LEVEL: "SILENT",
    });
    beforeEach(() => {
      vi.stubEnv("AWS_ENDPOINT_URL_EKS", cluster.eksUrl);
      vi.stubEnv("AWS_REGION", "us-east-1");
      vi.stubEnv("AWS_ACCESS_KEY_ID", "test");
      vi.stubEnv("AWS_SECRET_ACCESS_KEY", "test");
      return () => vi.unstubAllEnvs();
    });

    test("the cluster is found, and followed", async () => {
      const { cluster: port } = provide([provided], environment());
      const order = { model, revision: "r1" } as const;
      await port.follow({ type: "EnsureCapacity", ...order, groups: 1, basis: 1 });
      await port.follow({ type: "CreateGroup", ...order, groupId: "r1-0" });
      expect((await port.observe(model)).groups.map(({ groupId }) => groupId)).toEqual(["r1-0"]);
    });

    test("a cluster that is not there yet is waited for", async () => {
      const { cluster: port } = provide([provided], environment());
      const url = cluster.eks.kubernetesUrl;
      cluster.eks.kubernetesUrl = undefined;
      expect(await failureOf(port.observe(model))).toEqual({
        code: "unavailable",
        retryable: true,
      });
      cluster.eks.kubernetesUrl = url;
      expect((await port.observe(model)).groups).toEqual([]);
    });

    test("what is wrong is named", () => {
      const wrong = { ...environment(), AXON_CLUSTER: "{}" };
      expect(() => provide([provided], wrong)).toThrow(/AXON_CLUSTER.name/);
    });
  });
});
