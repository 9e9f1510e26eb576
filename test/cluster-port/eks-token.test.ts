import { EKSClient } from "@aws-sdk/client-eks";
import { SignatureV4 } from "@smithy/signature-v4";
import { expect, test } from "vitest";
import { eksToken } from "../../functions/lib/eks/token.ts";

const at = Date.UTC(2026, 0, 31, 12, 30, 5, 250);

/** The address in the token of a cluster. */
async function addressOf(region: string, credentials: EKSClient["config"]["credentials"]) {
  const client = { config: { region: async () => region, credentials } };
  const token = await eksToken(client, "axon-prod", () => at)();
  const [version, text = ""] = token.split(".");
  expect(version).toBe("k8s-aws-v1");
  return new URL(Buffer.from(text, "base64url").toString("utf8"));
}

test.each([
  ["eu-west-1", { accessKeyId: "AKIA1", secretAccessKey: "secret/with+signs=" }],
  ["us-east-1", { accessKeyId: "ASIA1", secretAccessKey: "s", sessionToken: "a+b/c==" }],
  ["cn-north-1", { accessKeyId: "AKIA2", secretAccessKey: "s" }],
])("the token of a cluster in %s is what AWS's own signer signs", async (region, identity) => {
  const client = new EKSClient({ region, credentials: identity });
  const { sha256, credentials } = client.config;
  const address = await addressOf(region, credentials);
  const { hostname } = address;
  const signer = new SignatureV4({ service: "sts", region, credentials, sha256 });
  const { query = {} } = await signer.presign(
    {
      ...{ method: "GET", protocol: "https:", hostname, path: "/" },
      query: { Action: "GetCallerIdentity", Version: "2011-06-15" },
      headers: { host: hostname, "x-k8s-aws-id": "axon-prod" },
    },
    {
      ...{ expiresIn: 60, signingDate: new Date(at) },
      unhoistableHeaders: new Set(["x-k8s-aws-id"]),
      signableHeaders: new Set(["host", "x-k8s-aws-id"]),
    },
  );
  expect(Object.fromEntries(address.searchParams)).toEqual(query);
  expect(hostname).toBe(
    region === "cn-north-1" ? "sts.cn-north-1.amazonaws.com.cn" : `sts.${region}.amazonaws.com`,
  );
  client.destroy();
});
