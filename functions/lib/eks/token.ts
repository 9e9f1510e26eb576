import { createHash, createHmac } from "node:crypto";
import type { EKSClient } from "@aws-sdk/client-eks";

/** For how long the address is signed; EKS takes the token for 15 minutes all the same. */
const signedForSeconds = 60;
const usedForMs = 10 * 60_000;

/**
 * The token by which EKS knows who asks Kubernetes: an address of STS's GetCallerIdentity, signed in advance
 * and bound to the cluster by a header; EKS calls it (kubernetes-sigs/aws-iam-authenticator, "API
 * Authorization from Outside a Cluster"). It is used again for ten minutes.
 */
export function eksToken(
  { config }: { config: Pick<EKSClient["config"], "region" | "credentials"> },
  cluster: string,
  now: () => number,
): () => Promise<string> {
  let known: { token: string; until: number } | undefined;
  return async () => {
    if (known !== undefined && now() < known.until) return known.token;
    const [region, credentials] = await Promise.all([config.region(), config.credentials()]);
    const url = presigned({ region, credentials, cluster, at: new Date(now()) });
    const token = `k8s-aws-v1.${Buffer.from(url).toString("base64url")}`;
    known = { token, until: now() + usedForMs };
    return token;
  };
}

interface Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string | undefined;
}

/**
 * The signed address, by Signature Version 4 with query parameters (AWS, "Create a signed AWS API request").
 * It is the one request that is signed here; the SDK's signer, which signs any, is 15 kB of the bundle.
 */
function presigned({
  region,
  credentials: { accessKeyId, secretAccessKey, sessionToken },
  cluster,
  at,
}: {
  region: string;
  credentials: Credentials;
  cluster: string;
  at: Date;
}): string {
  const host = `sts.${region}.amazonaws.com${region.startsWith("cn-") ? ".cn" : ""}`;
  const time = at.toISOString().replaceAll(/[-:]|\.\d+/g, "");
  const scope = [time.slice(0, 8), region, "sts", "aws4_request"];
  const signedHeaders = "host;x-k8s-aws-id";
  const query = Object.entries({
    Action: "GetCallerIdentity",
    Version: "2011-06-15",
    "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
    "X-Amz-Credential": [accessKeyId, ...scope].join("/"),
    "X-Amz-Date": time,
    "X-Amz-Expires": String(signedForSeconds),
    ...(sessionToken !== undefined && { "X-Amz-Security-Token": sessionToken }),
    "X-Amz-SignedHeaders": signedHeaders,
    // The names stand in the order of the alphabet, as they are signed.
  }).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  const request = ["GET", "/", query.join("&"), `host:${host}`, `x-k8s-aws-id:${cluster}`, ""];
  const canonical = [...request, signedHeaders, sha256("")].join("\n");
  const toSign = ["AWS4-HMAC-SHA256", time, scope.join("/"), sha256(canonical)].join("\n");
  const key = scope.reduce<string | Buffer>(hmac, `AWS4${secretAccessKey}`);
  return `https://${host}/?${query.join("&")}&X-Amz-Signature=${hmac(key, toSign).toString("hex")}`;
}

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
const hmac = (key: string | Buffer, text: string): Buffer =>
  createHmac("sha256", key).update(text).digest();
