/** What the deployment asks of the account before it makes anything, and what a made-up account answers. */

const zones = ["a", "b", "c", "d"].map((letter) => `us-east-1${letter}`);
/** Machines with GPUs are not in the first zones, as it happens: their pool must bring its own. */
const zonesWith = (instanceType: string) => (instanceType.startsWith("p") ? zones.slice(2) : zones);

interface Filters {
  filters?: { name: string; values: string[] }[];
}

interface Statement {
  sid?: string;
  effect?: string;
  actions?: string[];
  resources?: string[];
  principals?: { type: string; identifiers: string[] }[];
  conditions?: { test: string; variable: string; values: string[] }[];
}

export interface PolicyStatement {
  Effect: string;
  Action: string[];
  Resource: string[];
  Principal?: Record<string, string[]>;
  Condition?: Record<string, Record<string, string[]>>;
}

export function answerOf({
  token,
  inputs,
}: {
  token: string;
  inputs: Record<string, unknown>;
}): Record<string, unknown> {
  const name = token.split(":").at(-1) ?? "";
  switch (name) {
    case "getAvailabilityZones":
      return { names: zones, zoneIds: zones.map((_, i) => `use1-az${i + 4}`) };
    case "getInstanceTypeOfferings":
      return { locations: zonesWith((inputs as Filters).filters?.[0]?.values[0] ?? "") };
    case "getRegion":
      return { name: "us-east-1", region: "us-east-1", id: "us-east-1" };
    case "getCallerIdentity":
      return { accountId: "123456789012" };
    case "getPartition":
      return { partition: "aws", dnsSuffix: "amazonaws.com" };
    case "getPolicyDocument":
      return policyDocument(inputs["statements"] as Statement[]);
    case "getAuthorizationToken":
      return { userName: "AWS", password: "token" };
    default:
      throw new Error(`Nobody has said what ${token} answers: see test/stacks/harness/lookups.ts.`);
  }
}

function policyDocument(statements: Statement[] = []): Record<string, unknown> {
  const Statement = statements.map(
    ({ effect = "Allow", actions = [], resources = [], principals, conditions }) => ({
      ...{ Effect: effect, Action: actions, Resource: resources },
      ...(principals && {
        Principal: Object.fromEntries(principals.map((one) => [one.type, one.identifiers])),
      }),
      ...(conditions && {
        Condition: Object.fromEntries(
          conditions.map((one) => [one.test, { [one.variable]: one.values }]),
        ),
      }),
    }),
  ) satisfies PolicyStatement[];
  return {
    json: JSON.stringify({ Version: "2012-10-17", Statement }),
    // SST gives a role no policy where there are no statements.
    ...(statements.length > 0 && { statements }),
  };
}
