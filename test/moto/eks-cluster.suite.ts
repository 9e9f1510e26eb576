import { execFileSync } from "node:child_process";
import { join } from "node:path";
import {
  CreateClusterCommand,
  CreateNodegroupCommand,
  DescribeNodegroupCommand,
  EKSClient,
} from "@aws-sdk/client-eks";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { nodeGroupName } from "../../cluster/objects/names.ts";
import { kubernetesApi } from "../../functions/lib/eks/api.ts";
import { eksCluster } from "../../functions/lib/eks/eks-cluster.ts";
import { eksToken } from "../../functions/lib/eks/token.ts";
import { machineOf, settings } from "../cluster/deployments.ts";
import { clusterOfToken, deployment } from "../cluster-port/eks-harness.ts";
import { KubernetesStub } from "../cluster-port/kubernetes-stub.ts";
import { freshRedis } from "../support/parts.ts";
import { motoFolder, startMoto } from "./moto-server.ts";

/** Node groups by another implementation of EKS's API, and the token by another of STS's. */

const name = "axon-test";
const credentials = { accessKeyId: "AKIAIOSFODNN7EXAMPLE", secretAccessKey: "test" };
let moto: Awaited<ReturnType<typeof startMoto>>;
let eks: EKSClient;
const kubernetes = new KubernetesStub(clusterOfToken);
let redis: Redis;

beforeAll(async () => {
  moto = await startMoto();
  eks = new EKSClient({ endpoint: moto.url, region: "us-east-1", credentials });
  const roleArn = "arn:aws:iam::123456789012:role/axon";
  const resourcesVpcConfig = { subnetIds: ["subnet-1"] };
  await eks.send(new CreateClusterCommand({ name, roleArn, resourcesVpcConfig }));
  for (const index of [0, 1]) {
    await eks.send(
      new CreateNodegroupCommand({
        ...{ clusterName: name, nodegroupName: nodeGroupName("r1", index) },
        scalingConfig: { minSize: 0, maxSize: 2, desiredSize: 0 },
        ...{ subnets: ["subnet-1"], nodeRole: roleArn },
      }),
    );
  }
  redis = new Redis(await freshRedis());
});
afterAll(async () => {
  redis.disconnect();
  await kubernetes.stop();
  await moto.stop();
});

test("node groups are found, and are scaled as machines are asked for", async () => {
  const url = await kubernetes.start();
  const api = kubernetesApi(
    async () => ({ endpoint: url, authority: undefined }),
    eksToken(eks, name, Date.now),
  );
  const port = eksCluster({
    ...{ eks, kubernetes: api, redis, cluster: name, deployment, settings, machineOf },
  });
  const order = { type: "EnsureCapacity", model: "llama", revision: "r1" } as const;
  expect((await port.observe("llama")).capacity["r1"]).toMatchObject({ asked: 0, there: 0 });
  const outcome = await port.follow({ ...order, groups: 1, basis: 1 }).catch((error) => error);
  const { nodegroup } = await eks.send(
    new DescribeNodegroupCommand({ clusterName: name, nodegroupName: nodeGroupName("r1", 0) }),
  );
  expect([outcome, nodegroup?.scalingConfig]).toEqual([
    undefined,
    { minSize: 0, maxSize: 2, desiredSize: 2 },
  ]);
  expect((await port.observe("llama")).capacity["r1"]).toMatchObject({ asked: 1, there: 0 });
  api.close();
});

/** As `aws eks get-token` makes it; botocore comes with moto. */
const reference = `
import sys
from botocore.credentials import Credentials
from botocore.model import ServiceId
from botocore.session import get_session
from botocore.signers import RequestSigner
key, secret, cluster = sys.argv[1:]
signer = RequestSigner(ServiceId("STS"), "us-east-1", "sts", "v4", Credentials(key, secret),
                       get_session().get_component("event_emitter"))
print(signer.generate_presigned_url(
    {"method": "GET", "body": {}, "context": {}, "headers": {"x-k8s-aws-id": cluster},
     "url": "https://sts.us-east-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15"},
    region_name="us-east-1", expires_in=60, operation_name=""))
`;

test("the token's address is signed as by AWS's own client", async () => {
  const { accessKeyId, secretAccessKey } = credentials;
  const python = join(motoFolder, "bin", "python");
  const args = ["-c", reference, accessKeyId, secretAccessKey, name];
  const expected = new URL(execFileSync(python, args, { encoding: "utf8" }).trim());
  const date = expected.searchParams.get("X-Amz-Date") ?? "";
  const [, ...parts] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(date) ?? [];
  const [year = 0, month = 0, ...rest] = parts.map(Number);
  const now = Date.UTC(year, month - 1, ...rest);
  const signed = clusterOfToken(await eksToken(eks, name, () => now)());
  expect(signed.host).toBe(expected.host);
  expect([...signed.searchParams].sort()).toEqual([...expected.searchParams].sort());
});
