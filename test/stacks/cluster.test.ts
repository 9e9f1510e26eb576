import { describe, expect, test } from "vitest";
import example from "../../axon.config.ts";
import { defineDeployment } from "../../cluster/deployment.ts";
import { groupSet, revisionObjects } from "../../cluster/objects/group-set.ts";
import { nodeGroupName } from "../../cluster/objects/names.ts";
import { cluster as provider } from "../../functions/lib/eks/cluster.ts";
import { environmentWithLinks } from "../../functions/lib/links.ts";
import onBlock from "./fixtures/capacity-block.config.ts";
import { buildProgram, evaluateStage, stopBuilding } from "./harness/evaluate.ts";
import { allowed, graphOf, unavailable } from "./harness/graph.ts";

const prod = graphOf("prod");
const block = graphOf("block");
const pool = "Nodes-llama-3-70b-instruct-1-0";

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

  test("are a node group for each group, where rollouts look for it", () => {
    for (const { models } of [example, onBlock]) {
      const graph = models.length > 1 ? block : prod;
      const expected = models.flatMap(({ revisions }) =>
        revisions.flatMap(({ revision, groups }) =>
          Array.from({ length: groups.max }, (_, index) => nodeGroupName(revision, index)),
        ),
      );
      const own = graph.all("eks/nodeGroup").filter(({ name }) => name.startsWith("Nodes-"));
      expect(own.map(({ inputs }) => inputs["nodeGroupName"]).sort()).toEqual(expected.sort());
    }
    // Each in a placement group of its own: a group is found room for more easily than two.
    const placed = prod.all("ec2/placementGroup").map(({ name }) => name);
    expect(placed.sort()).toEqual([0, 1].map((index) => `Nodes-llama-3-70b-instruct-1-${index}`));
  });

  test("begin empty, are enough for the group, and are left alone by deployments", () => {
    expect(nodes()).toMatchObject({
      ...{ amiType: "AL2023_x86_64_NVIDIA", capacityType: "ON_DEMAND" },
      instanceTypes: ["p4d.24xlarge"],
      scalingConfig: { minSize: 0, desiredSize: 0, maxSize: 2 },
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
    const cpus = block.one("eks/nodeGroup", "Nodes-small-1-2").inputs;
    expect(cpus).toMatchObject({
      ...{ amiType: "AL2023_x86_64_STANDARD", capacityType: "ON_DEMAND" },
      instanceTypes: ["c7a.4xlarge"],
      scalingConfig: { minSize: 0, desiredSize: 0, maxSize: 2 },
    });
    expect(cpus["taints"]).toBeUndefined();
    const template = block.one("ec2/launchTemplate", "Nodes-small-1-2").inputs;
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
      ...[
        "connect",
        "disconnect",
        "unrouted",
        "chat",
        "resume",
        "cancel",
        "observe",
        "operate",
      ].map((name) => `lambda:InvokeFunction → axon-block-${name}`),
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

  test("lets in whoever drives rollouts, as the user that the objects know", () => {
    const { role } = prod.one("lambda/function", "ManageFunction").inputs;
    expect(role).toMatch(/:axon-prod-ManageRole-/);
    expect(prod.one("eks/accessEntry", "ManageAccess").inputs).toMatchObject({
      ...{ principalArn: role, kubernetesGroups: ["axon-rollout"] },
    });
    const binding = objectsOf(prod, "Base").find(({ kind }) => kind === "RoleBinding");
    expect(binding).toMatchObject({ subjects: [{ kind: "Group", name: "axon-rollout" }] });
  });

  test("is reached by functions through the group that EKS puts before its API", () => {
    expect(prod.one("vpc/securityGroupIngressRule", "FunctionsToKubernetes").inputs).toMatchObject({
      ...{ securityGroupId: "sg-of-the-cluster", referencedSecurityGroupId: "FunctionsGroup-id" },
      ...{ ipProtocol: "tcp", fromPort: 443, toPort: 443 },
    });
    expect(prod.one("eks/cluster", "Cluster").inputs["vpcConfig"]).toMatchObject({
      endpointPrivateAccess: true,
    });
  });
});

describe.skipIf(unavailable)("Kubernetes objects", () => {
  test("are applied: the base, the secrets and the controller, and nothing that rollouts make", () => {
    const kinds = (name: string) => [...new Set(objectsOf(prod, name).map(({ kind }) => kind))];
    expect(kinds("Base")).toEqual(
      expect.arrayContaining(["Namespace", "Deployment", "DaemonSet", "NetworkPolicy"]),
    );
    const applied = prod.all("kubernetes:yaml/v2").map(({ name }) => name);
    expect(applied.sort()).toEqual(["Base", "LeaderWorkerSets", "Secrets"]);
    expect(kinds("Base")).not.toContain("LeaderWorkerSet");
    expect(objectsOf(prod, "Secrets").map(({ metadata }) => metadata.name)).toEqual([
      "axon-redis",
      "axon-group",
    ]);
    const { file } = prod.one("kubernetes:yaml/v2", "LeaderWorkerSets").inputs;
    expect(file).toMatch(
      /^https:\/\/github\.com\/kubernetes-sigs\/lws\/releases\/download\/v[\d.]+\//,
    );
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

describe.skipIf(unavailable)("what rollouts know of the cluster", () => {
  test.each([
    ["prod", prod, example],
    ["block", block, onBlock],
  ])("makes every group of %s", (stage, graph, deployment) => {
    const link = graph.made.find(({ name }) => name === "ClusterLinkRef");
    const { properties } = link?.inputs ?? {};
    const linked = JSON.stringify({ ...properties, type: "sst.sst.Linkable" });
    const env = { SST_RESOURCE_Cluster: linked, REDIS_URL: "redis://127.0.0.1:6379" };
    expect(provider.prepare(environmentWithLinks(env))).not.toHaveProperty("problems");
    expect(properties.name).toBe(`axon-${stage}-data-plane`);
    const { settings, machines } = properties;
    const linkedDeployment = defineDeployment(properties.deployment);
    expect(linkedDeployment).toEqual(deployment);
    for (const { model, revisions } of linkedDeployment.models) {
      for (const revision of revisions) {
        const machine = machines[revision.instanceType];
        const context = { deployment: linkedDeployment, model, revision, settings, machine };
        const group = groupSet(context, `${revision.revision}-1`, "nodes");
        expect(group.spec).toMatchObject({
          replicas: 1,
          leaderWorkerTemplate: { size: revision.nodes },
        });
        expect(JSON.stringify(group)).toContain("@sha256:");
        const [{ data }] = revisionObjects(context);
        expect(data).toMatchObject({
          AXON_JOBS_QUEUE_URL: expect.stringMatching(/^https:\/\/sqs/),
        });
      }
    }
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
