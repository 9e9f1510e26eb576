/** What AWS would say of a resource once it is made: what others are built from. */

interface Args {
  type: string;
  name: string;
  // biome-ignore lint/suspicious/noExplicitAny: inputs have as many shapes as there are resources.
  inputs: Record<string, any>;
}

export function stateOf({ type, name, inputs }: Args): Record<string, unknown> {
  const physical = inputs["name"] ?? name;
  const service = /^aws:(\w+)/.exec(type)?.[1] ?? "none";
  const known = knownOf[type]?.({ type, name, inputs }) ?? {};
  return {
    arn: `arn:aws:${service}:us-east-1:123456789012:${physical}`,
    ...inputs,
    name: physical,
    ...known,
  };
}

const host = (name: string) => `${name.toLowerCase()}.example.internal`;

const knownOf: Record<string, (args: Args) => Record<string, unknown>> = {
  "aws:ec2/launchTemplate:LaunchTemplate": () => ({ latestVersion: 1 }),
  // With a slash at its end, as Lambda gives it.
  "aws:lambda/functionUrl:FunctionUrl": ({ name }) => ({
    functionUrl: `https://${name.toLowerCase()}.lambda-url.us-east-1.on.aws/`,
  }),
  "aws:dynamodb/table:Table": ({ name }) => ({
    streamArn: `arn:aws:dynamodb:us-east-1:123456789012:table/${name}/stream/1`,
  }),
  "aws:sqs/queue:Queue": ({ name, inputs }) => ({
    url: `https://sqs.us-east-1.amazonaws.com/123456789012/${inputs["name"] ?? name}`,
  }),
  "aws:eks/cluster:Cluster": ({ name, inputs }) => ({
    endpoint: `https://${host(name)}`,
    certificateAuthority: { data: "Y2VydGlmaWNhdGU=" },
    vpcConfig: { ...inputs["vpcConfig"], clusterSecurityGroupId: "sg-of-the-cluster" },
  }),
  "aws:elasticache/replicationGroup:ReplicationGroup": ({ name, inputs }) => ({
    clusterEnabled: inputs["clusterMode"] === "enabled",
    configurationEndpointAddress: host(name),
    memberClusters: Array.from(
      { length: (inputs["numNodeGroups"] ?? 1) * (1 + (inputs["replicasPerNodeGroup"] ?? 0)) },
      (_, i) => `${name.toLowerCase()}-${i + 1}`,
    ),
  }),
  "aws:rds/instance:Instance": ({ name, inputs }) => ({
    ...{ endpoint: `${host(name)}:5432`, port: 5432, identifier: inputs["identifier"] ?? name },
  }),
  "aws:rds/proxy:Proxy": ({ name }) => ({ endpoint: host(name) }),
  "aws:apigatewayv2/api:Api": ({ name, inputs }) => ({
    apiEndpoint: `${inputs["protocolType"] === "WEBSOCKET" ? "wss" : "https"}://${host(name)}`,
    executionArn: `arn:aws:execute-api:us-east-1:123456789012:${name}`,
  }),
  "aws:s3/bucket:Bucket": ({ name, inputs }) => ({
    bucket: inputs["bucket"] ?? name.toLowerCase(),
    bucketRegionalDomainName: `${name.toLowerCase()}.s3.us-east-1.amazonaws.com`,
  }),
  "aws:ecr/repository:Repository": ({ name }) => ({
    repositoryUrl: `123456789012.dkr.ecr.us-east-1.amazonaws.com/${name.toLowerCase()}`,
    registryId: "123456789012",
  }),
  "docker-build:index:Image": ({ inputs }) => ({
    ref: `${inputs["tags"]?.[0]?.replace(/:[^:/]+$/, "")}@sha256:0123`,
  }),
  "aws:cloudfront/distribution:Distribution": () => ({ domainName: "page.example.net" }),
  "random:index/randomPassword:RandomPassword": () => ({ result: "p&ssword" }),
  "random:index/randomBytes:RandomBytes": () => ({
    base64: Buffer.alloc(32).toString("base64"),
  }),
};
