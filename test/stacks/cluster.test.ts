import { describe, expect, test } from "vitest";
import { buildProgram, evaluateStage, stopBuilding } from "./harness/evaluate.ts";
import { allowed, graphOf, unavailable } from "./harness/graph.ts";

const prod = graphOf("prod");
const block = graphOf("block");
const pool = "PoolP4d24xlarge";

interface KubernetesObject {
  kind: string;
  metadata: { name: string; namespace?: string };
}
const objectsOf = (graph: typeof prod, name: string): KubernetesObject[] =>
  graph.one("kubernetes:yaml/v2", name).inputs["objs"];

describe.skipIf(unavailable)("the nodes of a group", () => {
  const template = () => prod.one("ec2/launchTemplate", pool).inputs;
  const nodes = () => prod.one("eks/nodeGroup", pool).inputs;

  test("have ENA on the first card, and EFA on all four", () => {
    const cards = template()["networkInterfaces"].map(
      (card: { networkCardIndex: number; deviceIndex: number; interfaceType: string }) =>
        `${card.networkCardIndex}/${card.deviceIndex} ${card.interfaceType}`,
    );
    expect(cards).toEqual([
      "0/0 interface",
      "0/1 efa-only",
      "1/0 efa-only",
      "2/0 efa-only",
      "3/0 efa-only",
    ]);
    for (const card of template()["networkInterfaces"]) {
      expect(card.securityGroups).toEqual(["sg-of-the-cluster", "NodesGroup-id"]);
    }
  });

  test("may send each other all protocols, which EFA wants said of the group itself", () => {
    const { ingress, egress } = prod.one("ec2/securityGroup", "NodesGroup").inputs;
    const self = { protocol: "-1", fromPort: 0, toPort: 0, self: true };
    expect(ingress).toEqual([self]);
    expect(egress).toContainEqual(self);
  });

  test("stand side by side, in one zone", () => {
    expect(prod.one("ec2/placementGroup", pool).inputs).toMatchObject({ strategy: "cluster" });
    expect(template()["placement"]).toEqual({ groupName: pool });
    expect(nodes()["subnetIds"]).toEqual(["NetworkPrivateSubnet3-id"]);
    // The made-up account offers p4d in its third zone first.
    expect(prod.one("ec2/subnet", "NetworkPrivateSubnet3").inputs["availabilityZone"]).toBe(
      "us-east-1c",
    );
  });

  test("begin with the least groups, may be none, and are left alone by deployments", () => {
    expect(nodes()).toMatchObject({
      ...{ amiType: "AL2023_x86_64_NVIDIA", capacityType: "ON_DEMAND" },
      instanceTypes: ["p4d.24xlarge"],
      scalingConfig: { minSize: 0, desiredSize: 2, maxSize: 4 },
      taints: [{ key: "nvidia.com/gpu", effect: "NO_SCHEDULE" }],
    });
    expect(prod.one("eks/nodeGroup", pool).ignoreChanges).toEqual(["scalingConfig.desiredSize"]);
  });

  test("have encrypted disks, and credentials that pods cannot get at", () => {
    for (const { inputs } of prod.all("ec2/launchTemplate")) {
      expect(inputs["metadataOptions"]).toMatchObject({
        ...{ httpTokens: "required", httpPutResponseHopLimit: 1 },
      });
      expect(inputs["blockDeviceMappings"][0].ebs.encrypted).toBe("true");
    }
  });

  test("come from a capacity block, where one was bought", () => {
    expect(block.one("ec2/launchTemplate", pool).inputs).toMatchObject({
      instanceType: "p4d.24xlarge",
      instanceMarketOptions: { marketType: "capacity-block" },
      capacityReservationSpecification: {
        capacityReservationTarget: { capacityReservationId: "cr-0123456789abcdef0" },
      },
    });
    const nodes = block.one("eks/nodeGroup", pool).inputs;
    expect(nodes["capacityType"]).toBe("CAPACITY_BLOCK");
    expect(nodes["instanceTypes"]).toBeUndefined();
    const [subnet] = nodes["subnetIds"];
    const { availabilityZone } = block.one("ec2/subnet", subnet.replace("-id", "")).inputs;
    expect(availabilityZone).toBe("us-east-1d");
    expect(block.all("ec2/placementGroup").map(({ name }) => name)).not.toContain(pool);
  });

  test("come from a reservation, in the placement group that it was made in", () => {
    const reserved = graphOf("reserved");
    expect(reserved.one("ec2/launchTemplate", pool).inputs).toMatchObject({
      placement: { groupName: "reserved-p4d" },
      capacityReservationSpecification: {
        capacityReservationTarget: { capacityReservationId: "cr-0fedcba9876543210" },
      },
    });
    expect(reserved.all("ec2/placementGroup")).toEqual([]);
    expect(reserved.one("eks/nodeGroup", pool).inputs).toMatchObject({
      ...{ capacityType: "ON_DEMAND", instanceTypes: ["p4d.24xlarge"] },
    });
  });

  test("are of another kind where a model needs no GPU, and in any zone that has them", () => {
    const cpus = block.one("eks/nodeGroup", "PoolC7a4xlarge").inputs;
    expect(cpus).toMatchObject({
      ...{ amiType: "AL2023_x86_64_STANDARD", capacityType: "ON_DEMAND" },
      instanceTypes: ["c7a.4xlarge"],
      scalingConfig: { minSize: 0, desiredSize: 2, maxSize: 6 },
    });
    expect(cpus["taints"]).toBeUndefined();
    const template = block.one("ec2/launchTemplate", "PoolC7a4xlarge").inputs;
    expect(template["networkInterfaces"]).toBeUndefined();
    expect(template["capacityReservationSpecification"]).toBeUndefined();
    const [subnet] = cpus["subnetIds"];
    const { availabilityZone } = block.one("ec2/subnet", subnet.replace("-id", "")).inputs;
    expect(availabilityZone).not.toBe("us-east-1d");
  });
});

describe.skipIf(unavailable)("the cluster", () => {
  test("encrypts its secrets, logs what is done to it, and is reached from where it may be", () => {
    expect(prod.one("eks/cluster", "Cluster").inputs).toMatchObject({
      accessConfig: { authenticationMode: "API" },
      encryptionConfig: { resources: ["secrets"] },
      enabledClusterLogTypes: ["api", "audit", "authenticator"],
      deletionProtection: true,
    });
    expect(block.one("eks/cluster", "Cluster").inputs["vpcConfig"]).toMatchObject({
      publicAccessCidrs: ["192.0.2.0/24"],
    });
    expect(block.one("eks/accessPolicyAssociation", "Administrator1Policy").inputs).toMatchObject({
      principalArn: "arn:aws:iam::123456789012:role/operators",
    });
  });

  test("has a node for each two relays, on ARM, in all zones", () => {
    expect(prod.one("eks/nodeGroup", "ControlNodes").inputs).toMatchObject({
      amiType: "AL2023_ARM_64_STANDARD",
      scalingConfig: { minSize: 2, desiredSize: 2 },
      subnetIds: [1, 2, 3].map((i) => `NetworkPrivateSubnet${i}-id`),
    });
    expect(block.one("eks/nodeGroup", "ControlNodes").inputs).toMatchObject({
      scalingConfig: { minSize: 3 },
    });
  });

  test("enforces network policies", () => {
    const { configurationValues } = prod.one("eks/addon", "Addon-vpc-cni").inputs;
    expect(JSON.parse(configurationValues)).toEqual({ enableNetworkPolicy: "true" });
  });

  const jobs = "axon-prod-jobs-llama-3-70b-instruct-1";
  const connections = "execute-api:ManageConnections → SocketApi/*/*/@connections/*";

  test("workers take jobs, report and read weights, and never touch the log", () => {
    expect(allowed(prod.one("iam/role", "WorkerRole"))).toEqual([
      `sqs:ReceiveMessage → ${jobs}`,
      `sqs:DeleteMessage → ${jobs}`,
      `sqs:ChangeMessageVisibility → ${jobs}`,
      "sqs:SendMessage → axon-prod-reports.fifo",
      `sqs:SendMessage → ${jobs}-dead`,
      "s3:GetObject → ModelsBucket/*",
      "s3:ListBucket → ModelsBucket",
    ]);
  });

  test("relays post to connections, and invoke the functions behind their own door if they have one", () => {
    expect(allowed(prod.one("iam/role", "RelayRole"))).toEqual([connections]);
    expect(allowed(block.one("iam/role", "RelayRole"))).toEqual([
      connections,
      ...["connect", "disconnect", "unrouted", "chat", "resume", "cancel"].map(
        (name) => `lambda:InvokeFunction → axon-block-${name}`,
      ),
    ]);
  });

  test("each service account of the objects has its role, by Pod Identity", () => {
    const accounts = objectsOf(prod, "Base").filter(({ kind }) => kind === "ServiceAccount");
    const identities = prod.all("eks/podIdentityAssociation").map(({ inputs }) => inputs);
    expect(identities.map(({ serviceAccount }) => serviceAccount).sort()).toEqual(
      accounts.map(({ metadata }) => metadata.name).sort(),
    );
    for (const { namespace } of identities) expect(namespace).toBe("axon");
  });

  test("whoever will drive rollouts scales pools, and nothing else of AWS", () => {
    expect(allowed(prod.one("iam/role", "ManageRole"))).toEqual([
      "eks:DescribeCluster → axon-prod-data-plane",
      "eks:DescribeNodegroup → PoolP4d24xlarge",
      "eks:UpdateNodegroupConfig → PoolP4d24xlarge",
    ]);
    expect(prod.one("eks/accessEntry", "ManageAccess").inputs).toMatchObject({
      kubernetesGroups: ["axon-rollout"],
    });
  });
});

describe.skipIf(unavailable)("Kubernetes objects", () => {
  test("are applied: the base, the secrets, the controller, and each group after them", () => {
    const kinds = (name: string) => [...new Set(objectsOf(prod, name).map(({ kind }) => kind))];
    expect(kinds("Base")).toEqual(
      expect.arrayContaining(["Namespace", "Deployment", "DaemonSet", "NetworkPolicy"]),
    );
    expect(kinds("Group-llama-3-70b-instruct-1")).toContain("LeaderWorkerSet");
    expect(objectsOf(prod, "Secrets").map(({ metadata }) => metadata.name)).toEqual([
      "axon-redis",
      "axon-group",
    ]);
    const { file } = prod.one("kubernetes:yaml/v2", "LeaderWorkerSets").inputs;
    expect(file).toMatch(
      /^https:\/\/github\.com\/kubernetes-sigs\/lws\/releases\/download\/v[\d.]+\//,
    );
    const group = prod.one("kubernetes:yaml/v2", "Group-llama-3-70b-instruct-1");
    const before = group.dependsOn.map((urn) => urn.split("::").at(-1));
    expect(before).toEqual(expect.arrayContaining(["Base", "Secrets", "LeaderWorkerSets"]));
  });

  test("run the image that was built, by its digest", () => {
    expect(JSON.stringify(objectsOf(prod, "Base"))).toContain("@sha256:");
    expect(prod.one("docker-build:index", "Image").inputs).toMatchObject({
      platforms: ["linux/amd64", "linux/arm64"],
    });
  });

  test("pods reach Redis through TLS, with its password", () => {
    const [redis] = objectsOf(prod, "Secrets") as unknown as {
      stringData: { REDIS_URL: string };
    }[];
    const url = new URL(redis?.stringData.REDIS_URL.replace("rediss+cluster:", "http:") ?? "");
    expect(redis?.stringData.REDIS_URL).toMatch(/^rediss\+cluster:/);
    expect(decodeURIComponent(url.password)).toBe("p&ssword");
  });
});

describe.skipIf(unavailable)("a deployment that cannot work", () => {
  test("is refused with the sum, before anything is made", { timeout: 180_000 }, async () => {
    const program = await buildProgram(`${import.meta.dirname}/fixtures/too-large.config.ts`);
    await stopBuilding();
    await expect(evaluateStage(program, "large", { bundles: false })).rejects.toThrow(
      /axon\.config\.ts cannot be deployed:\n.*models\.0\.revisions\.0/,
    );
  });
});
