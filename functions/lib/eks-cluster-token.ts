import type { EKSClient } from "@aws-sdk/client-eks";
import { SignatureV4 } from "@smithy/signature-v4";

/** For how long the address is signed; EKS takes the token for 15 minutes all the same. */
const signedForSeconds = 60;
const usedForMs = 10 * 60_000;

/**
 * The token by which EKS knows who asks Kubernetes: an address of STS's GetCallerIdentity, signed in advance
 * and bound to the cluster by a header; EKS calls it (kubernetes-sigs/aws-iam-authenticator, "API
 * Authorization from Outside a Cluster"). It is used again for ten minutes.
 */
export function eksToken(
  { config }: EKSClient,
  cluster: string,
  now: () => number,
): () => Promise<string> {
  const { credentials, sha256 } = config;
  let known: { token: string; until: number } | undefined;
  return async () => {
    if (known !== undefined && now() < known.until) return known.token;
    const region = await config.region();
    const signer = new SignatureV4({ service: "sts", region, credentials, sha256 });
    const hostname = `sts.${region}.amazonaws.com${region.startsWith("cn-") ? ".cn" : ""}`;
    const request = {
      ...{ method: "GET", protocol: "https:", hostname, path: "/" },
      query: { Action: "GetCallerIdentity", Version: "2011-06-15" },
      headers: { host: hostname, "x-k8s-aws-id": cluster },
    };
    const { query = {} } = await signer.presign(request, {
      expiresIn: signedForSeconds,
      signingDate: new Date(now()),
      unhoistableHeaders: new Set(["x-k8s-aws-id"]),
      signableHeaders: new Set(["host", "x-k8s-aws-id"]),
    });
    const pairs = Object.entries(query).map(
      ([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(String(value))}`,
    );
    const url = `https://${hostname}/?${pairs.join("&")}`;
    const token = `k8s-aws-v1.${Buffer.from(url).toString("base64url")}`;
    known = { token, until: now() + usedForMs };
    return token;
  };
}
