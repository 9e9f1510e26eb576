import { execFile, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { baseObjects, type KubernetesObject } from "../../cluster/objects/objects.ts";
import { deploymentOf, groupObjects, groups, machineOf, settings } from "./deployments.ts";

/**
 * What kubectl makes of the manifests, where it is installed. Even its dry run asks a server which kinds
 * there are: this one answers that, as a cluster with LeaderWorkerSet's controller does, and nothing else.
 */
const kinds: Record<string, string[]> = {
  v1: ["Namespace", "ServiceAccount", "ConfigMap", "Service"],
  "apps/v1": ["Deployment", "DaemonSet"],
  "networking.k8s.io/v1": ["NetworkPolicy"],
  "policy/v1": ["PodDisruptionBudget"],
  "rbac.authorization.k8s.io/v1": ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"],
  "leaderworkerset.x-k8s.io/v1": ["LeaderWorkerSet"],
};

function resourceList(groupVersion: string) {
  const resources = (kinds[groupVersion] ?? []).map((kind) => ({
    kind,
    name: kind === "NetworkPolicy" ? "networkpolicies" : `${kind.toLowerCase()}s`,
    singularName: kind.toLowerCase(),
    namespaced: kind !== "Namespace" && !kind.startsWith("Cluster"),
    verbs: ["create", "get", "list", "patch"],
  }));
  return { kind: "APIResourceList", apiVersion: "v1", groupVersion, resources };
}

function discovery(path: string): unknown {
  if (path === "/api") return { kind: "APIVersions", versions: ["v1"] };
  if (path === "/api/v1") return resourceList("v1");
  if (path !== "/apis") return resourceList(path.replace("/apis/", ""));
  const versions = Object.keys(kinds).filter((groupVersion) => groupVersion !== "v1");
  const ofGroups = versions.map((groupVersion) => {
    const version = { groupVersion, version: "v1" };
    return { name: groupVersion.split("/")[0], versions: [version], preferredVersion: version };
  });
  return { kind: "APIGroupList", apiVersion: "v1", groups: ofGroups };
}

let server = "";
const cache = mkdtempSync(join(tmpdir(), "axon-kubectl-"));
beforeAll(async () => {
  const stub = createServer((request, response) => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(discovery(new URL(request.url ?? "", "http://stub").pathname)));
  }).listen(0, "127.0.0.1");
  await once(stub, "listening");
  server = `http://127.0.0.1:${(stub.address() as AddressInfo).port}`;
  return () => {
    stub.close();
    rmSync(cache, { recursive: true });
  };
});

/** @returns what kubectl would create. */
function dryRun(items: KubernetesObject[]): Promise<string[]> {
  const what = ["create", "--dry-run=client", "--validate=false", "-o", "name", "-f", "-"];
  const where = ["--server", server, "--cache-dir", cache];
  return new Promise((resolve, reject) => {
    const env = { ...process.env, KUBECONFIG: "/dev/null" };
    const child = execFile("kubectl", [...what, ...where], { env }, (error, stdout) => {
      if (error === null) resolve(stdout.trim().split("\n"));
      else reject(error);
    });
    child.stdin?.end(JSON.stringify({ kind: "List", apiVersion: "v1", items }));
  });
}

const hasKubectl = spawnSync("kubectl", ["version", "--client"]).status === 0;

test.runIf(hasKubectl)("kubectl reads every manifest", async () => {
  for (const group of Object.values(groups)) {
    const objects = groupObjects(group);
    const created = await dryRun(objects);
    expect(created).toHaveLength(objects.length);
    expect(created).toContain(
      "leaderworkerset.leaderworkerset.x-k8s.io/axon-llama-3-70b-instruct-1-7",
    );
  }
  const { deployment } = deploymentOf({}, { relays: { count: 2, frontDoor: true } });
  const base = baseObjects(deployment, settings, { machineOf });
  const created = await dryRun(base);
  expect(created).toHaveLength(base.length);
  expect(created).toContain("daemonset.apps/axon-efa-device-plugin");
});
