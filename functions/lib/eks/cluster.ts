import { DescribeClusterCommand, EKSClient } from "@aws-sdk/client-eks";
import * as z from "zod";
import type { Deployment } from "../../../cluster/deployment.ts";
import type { ClusterSettings, Machine } from "../../../cluster/objects/settings.ts";
import { ClusterError } from "../../../events/cluster-port.ts";
import { redisUrlSchema } from "../../../events/redis-client.ts";
import { awsClient } from "../aws-client.ts";
import { json, provider } from "../provider.ts";
import { lazyRedis } from "../redis.ts";
import { type ApiServer, kubernetesApi } from "./api.ts";
import { eksCluster } from "./eks-cluster.ts";
import { eksFailure } from "./errors.ts";
import { eksToken } from "./token.ts";

/** What the stacks say of the cluster, whole: the objects of its groups are made from it. */
const clusterSchema = z.strictObject({
  /** EKS's name of it. */
  name: z.string().min(1),
  /** As axon.config.ts states it, checked and with its defaults filled in by the stacks. */
  deployment: z.custom<Deployment>(
    (value) => typeof value === "object" && value !== null && "models" in value,
  ),
  settings: z.custom<ClusterSettings>((value) => typeof value === "object" && value !== null),
  /** What the machines have, by EC2's names of them. */
  machines: z.record(
    z.string(),
    z.custom<Machine>((value) => typeof value === "object"),
  ),
});

export const cluster = provider(
  ["cluster"],
  z.object({ AXON_CLUSTER: json.pipe(clusterSchema), REDIS_URL: redisUrlSchema }),
  ({ AXON_CLUSTER: { name, deployment, settings, machines }, REDIS_URL }, logger) => {
    const eks = new EKSClient(awsClient);
    const token = eksToken(eks, name, Date.now);
    return {
      cluster: eksCluster({
        ...{ eks, cluster: name, settings },
        kubernetes: kubernetesApi(() => apiServer(eks, name), token),
        redis: lazyRedis(REDIS_URL, logger),
        deployment,
        machineOf(instanceType) {
          const machine = machines[instanceType];
          if (machine !== undefined) return machine;
          throw new ClusterError("unknown", `What ${instanceType} has is not known.`);
        },
      }),
    };
  },
);

/** Where a cluster's API is, and by which authority's certificate it is known. */
async function apiServer(eks: EKSClient, name: string): Promise<ApiServer> {
  try {
    const { cluster: found } = await eks.send(new DescribeClusterCommand({ name }));
    const data = found?.certificateAuthority?.data;
    if (found?.endpoint === undefined) {
      throw new ClusterError("unavailable", `The cluster ${name} is ${found?.status}.`);
    }
    const authority = data && Buffer.from(data, "base64").toString("utf8");
    return { endpoint: found.endpoint, authority };
  } catch (error) {
    throw eksFailure(error, `describing the cluster ${name}`);
  }
}
