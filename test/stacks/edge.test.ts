import { describe, expect, test } from "vitest";
import { graphOf, unavailable } from "./harness/graph.ts";

const prod = graphOf("prod");

describe.skipIf(unavailable)("the WebSocket", () => {
  test("has the routes of the protocol, each with its function", () => {
    const keys = prod
      .all("apigatewayv2/route")
      .filter(({ name }) => name.startsWith("Socket"))
      .map(({ inputs }) => inputs["routeKey"]);
    expect(keys.sort()).toEqual([
      "$connect",
      "$default",
      "$disconnect",
      "cancel",
      "chat",
      "observe",
      "operate",
      "resume",
    ]);
    expect(prod.one("apigatewayv2/api", "SocketApi").inputs["routeSelectionExpression"]).toBe(
      "$request.body.action",
    );
  });

  test("leaves the callbacks their part of the account's quota, and logs who came", () => {
    expect(prod.one("apigatewayv2/stage", "SocketStage").inputs).toMatchObject({
      defaultRouteSettings: { throttlingRateLimit: 2_000, throttlingBurstLimit: 2_000 },
      accessLogSettings: { destinationArn: expect.any(String) },
    });
  });
});

describe.skipIf(unavailable)("OpenAI's API", () => {
  test("is a URL that streams for as long as a function may run, and that pages of other sites may call", () => {
    const { cors, ...url } = prod.one("lambda/functionUrl", "CompletionsUrl").inputs;
    expect(url).toMatchObject({ authorizationType: "NONE", invokeMode: "RESPONSE_STREAM" });
    expect(cors).toMatchObject({ allowOrigins: ["*"], allowMethods: ["GET", "POST"] });
    expect(cors.allowHeaders).toEqual(expect.arrayContaining(["authorization", "last-event-id"]));
    expect(cors.allowCredentials).toBeUndefined();
    expect(prod.one("lambda/function", "CompletionsFunction").inputs["timeout"]).toBe(900);
    expect(prod.outputs["openai"]).toMatch(/^https:.*\/v1$/);
  });
});

describe.skipIf(unavailable)("the network", () => {
  test("nothing is let in from outside", () => {
    const groups = [...prod.all("ec2/securityGroup"), ...prod.all("ec2/defaultSecurityGroup")];
    expect(groups.length).toBeGreaterThanOrEqual(6);
    const open = groups.filter(({ inputs }) =>
      (inputs["ingress"] ?? []).some(
        (rule: { cidrBlocks?: string[]; ipv6CidrBlocks?: string[] }) =>
          (rule.cidrBlocks ?? []).length + (rule.ipv6CidrBlocks ?? []).length > 0,
      ),
    );
    expect(open.map(({ name }) => name)).toEqual([]);
  });

  test("no machine gets a public address by itself", () => {
    for (const { name, inputs } of prod.all("ec2/subnet")) {
      expect(inputs["mapPublicIpOnLaunch"] ?? false, name).toBe(false);
    }
  });

  test("weights, events and jobs do not pass the NAT gateways", () => {
    const services = prod.all("ec2/vpcEndpoint").map(({ inputs }) => inputs["serviceName"]);
    expect(services.sort()).toEqual([
      "com.amazonaws.us-east-1.dynamodb",
      "com.amazonaws.us-east-1.s3",
      "com.amazonaws.us-east-1.sqs",
    ]);
  });

  test("stores listen to functions and nodes, and to nobody else", () => {
    const sources = (name: string) =>
      prod
        .one("ec2/securityGroup", name)
        .inputs["ingress"].map((rule: { fromPort: number; securityGroups?: string[] }) => [
          rule.fromPort,
          rule.securityGroups ?? ["self"],
        ]);
    expect(sources("CacheGroup")).toEqual([[6379, ["FunctionsGroup-id", "NodesGroup-id"]]]);
    expect(sources("StoreGroup")).toEqual([[5432, ["FunctionsGroup-id"]]]);
  });
});

describe.skipIf(unavailable)("the page", () => {
  test("is told its addresses, and no credential", () => {
    const { environment, create } = prod.one("command:local", "WebBuilder").inputs;
    expect(environment).toMatchObject({
      AXON_WEBSOCKET_URL: expect.stringMatching(/^wss:\/\/.*\/\$default$/),
      AXON_API_URL: "/api",
    });
    expect(create).toBe("npm run build:web:aws");
  });

  test("is in a bucket that only CloudFront reads, with headers that keep frames out", () => {
    expect(
      prod.one("s3/bucketPublicAccessBlock", "WebAssetsPublicAccessBlock").inputs,
    ).toMatchObject({
      ...{ blockPublicAcls: true, restrictPublicBuckets: true },
    });
    const { defaultCacheBehavior } = prod.one(
      "cloudfront/distribution",
      "PageCdnDistribution",
    ).inputs;
    expect(defaultCacheBehavior).toMatchObject({
      ...{ viewerProtocolPolicy: "redirect-to-https", responseHeadersPolicyId: "PageHeaders-id" },
    });
  });

  test("reads the history under its own name, and no other site does", () => {
    expect(prod.one("apigatewayv2/route", "ApiRouteBccfraRoute").inputs["routeKey"]).toBe(
      "GET /api/{proxy+}",
    );
    const { corsConfiguration = {} } = prod.one("apigatewayv2/api", "ApiApi").inputs;
    expect(corsConfiguration).toEqual({});
  });
});
