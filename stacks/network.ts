import type { Deployment } from "../cluster/deployment.ts";
import { footprint } from "../cluster/plan/cost.ts";
import { findInstanceType } from "../cluster/plan/instances.ts";

export type Network = Awaited<ReturnType<typeof network>>;

/**
 * The VPC. Public subnets hold nothing but NAT gateways; functions, nodes and stores are in private ones.
 * Who may talk to whom is said by security groups that name each other, never by addresses. What leads
 * in from outside is API Gateway, CloudFront and the Kubernetes API, none of which is in here.
 */
export async function network(deployment: Deployment) {
  const { zones, poolZones } = await chooseZones(deployment);
  const vpc = new sst.aws.Vpc("Network", {
    az: zones,
    nat: "managed",
    transform: {
      // The group that AWS gives to whoever names none: it lets nothing in and nothing out.
      securityGroup: { ingress: [], egress: [] },
      publicSubnet: { mapPublicIpOnLaunch: false },
    },
  });
  const groups = securityGroups(vpc);
  endpoints(vpc, groups);
  const subnetIn = (zone: string) =>
    vpc.nodes.privateSubnets.apply((subnets) => {
      const subnet = subnets[zones.indexOf(zone)];
      if (subnet === undefined) throw new Error(`There is no subnet in ${zone}.`);
      return subnet.id;
    });
  return { vpc, groups, zones, poolZones, subnetIn };
}

/** EKS has no control plane in these zones. Source: EKS user guide, "VPC and subnet considerations". */
const zonesWithoutEks = ["use1-az3", "usw1-az2", "cac1-az3"];

/**
 * The zones of the network, and in which of them the nodes of each instance type are. A group's nodes are
 * in one zone, because EFA does not reach further: that of the reservation, or else the first one where
 * EC2 has the type. The order of the zones decides which addresses each has, so it never depends on more
 * than it must: a pool's zone that is not among the first ones comes last.
 */
async function chooseZones({ models, capacity }: Deployment) {
  const available = await aws.getAvailabilityZones({
    state: "available",
    filters: [{ name: "opt-in-status", values: ["opt-in-not-required"] }],
  });
  const usable = available.names
    .filter((_, i) => !zonesWithoutEks.includes(available.zoneIds[i] ?? ""))
    .sort();
  const zones = usable.slice(0, footprint.natGateways);
  const poolZones: Record<string, string> = {};
  for (const { instanceType } of models.flatMap(({ revisions }) => revisions)) {
    const offered = await zonesOffering(instanceType);
    const candidates = usable.filter((zone) => offered.includes(zone));
    // What is reserved are the machines with GPUs.
    const isReserved =
      capacity.kind !== "on-demand" && findInstanceType(instanceType)?.gpus !== undefined;
    const chosen = isReserved
      ? capacity.zone
      : (candidates.find((zone) => zones.includes(zone)) ?? candidates[0]);
    if (chosen === undefined) throw new Error(`No zone of this region offers ${instanceType}.`);
    poolZones[instanceType] = chosen;
    if (!zones.includes(chosen)) zones.push(chosen);
  }
  return { zones, poolZones };
}

async function zonesOffering(instanceType: string): Promise<string[]> {
  const { locations } = await aws.ec2.getInstanceTypeOfferings({
    filters: [{ name: "instance-type", values: [instanceType] }],
    locationType: "availability-zone",
  });
  return locations;
}

const everywhere = { protocol: "-1", fromPort: 0, toPort: 0, cidrBlocks: ["0.0.0.0/0"] };

function securityGroups(vpc: sst.aws.Vpc) {
  const group = (
    name: string,
    description: string,
    rules: Pick<aws.ec2.SecurityGroupArgs, "ingress" | "egress">,
  ) => new aws.ec2.SecurityGroup(name, { vpcId: vpc.id, description, ...rules });
  const from = (port: number, ...sources: aws.ec2.SecurityGroup[]) => ({
    ...{ protocol: "tcp", fromPort: port, toPort: port },
    securityGroups: sources.map(({ id }) => id),
  });

  const functions = group("FunctionsGroup", "Lambda functions", {
    ingress: [],
    egress: [everywhere],
  });
  // EFA passes only between members of a group that may send all protocols to itself and take all from
  // itself; a rule for all addresses does not count.
  const toSelf = { protocol: "-1", fromPort: 0, toPort: 0, self: true };
  const nodes = group("NodesGroup", "Nodes of the cluster, EFA among them", {
    ingress: [toSelf],
    egress: [toSelf, everywhere],
  });
  const cache = group("CacheGroup", "Redis, for functions and nodes", {
    ingress: [from(6379, functions, nodes)],
    egress: [],
  });
  const store = group("StoreGroup", "PostgreSQL, for functions", {
    ingress: [from(5432, functions)],
    egress: [],
  });
  const endpoint = group("EndpointsGroup", "Endpoints of AWS services, for functions and nodes", {
    ingress: [from(443, functions, nodes)],
    egress: [],
  });
  return { functions, nodes, cache, store, endpoint };
}

/**
 * What is much used is reached without the NAT gateways: weights come from S3 (141 GB for each node of
 * Llama-3-70B, free of charge this way), events go to DynamoDB, jobs to SQS.
 */
function endpoints(vpc: sst.aws.Vpc, { endpoint }: ReturnType<typeof securityGroups>): void {
  const region = aws.getRegionOutput().region;
  const routeTableIds = vpc.nodes.privateRouteTables.apply((tables) => tables.map(({ id }) => id));
  for (const service of ["s3", "dynamodb"]) {
    new aws.ec2.VpcEndpoint(`Endpoint-${service}`, {
      vpcId: vpc.id,
      serviceName: $interpolate`com.amazonaws.${region}.${service}`,
      vpcEndpointType: "Gateway",
      routeTableIds,
    });
  }
  new aws.ec2.VpcEndpoint("Endpoint-sqs", {
    vpcId: vpc.id,
    serviceName: $interpolate`com.amazonaws.${region}.sqs`,
    vpcEndpointType: "Interface",
    subnetIds: vpc.privateSubnets,
    securityGroupIds: [endpoint.id],
    privateDnsEnabled: true,
  });
}
