import type { Deployment } from "../deployment.ts";
import { findInstanceType } from "./instances.ts";

/** A quota of the account that the deployment needs so much of. */
export interface Quota {
  name: string;
  /** Service Quotas' own name for it. */
  code: string;
  vcpus: number;
}

const families = [
  { prefix: "p", name: "Running On-Demand P instances", code: "L-417A185B" },
  { prefix: "g", name: "Running On-Demand G and VT instances", code: "L-DB2E81BA" },
  { prefix: "c", name: "Running On-Demand Standard instances", code: "L-1216C47A" },
];

/** vCPUs of all groups at most, by EC2's quotas. A new account has none of P and G. */
export function quotasOf({ models, capacity }: Deployment): Quota[] {
  const revisions = models.flatMap((model) => model.revisions);
  return families.flatMap(({ prefix, name, code }) => {
    // Capacity blocks do not count; a reservation on demand does.
    if (capacity.kind === "block" && prefix !== "c") return [];
    const vcpus = revisions
      .filter(({ instanceType }) => instanceType.startsWith(prefix))
      .map(({ instanceType, nodes, groups }) => {
        return (findInstanceType(instanceType)?.vcpus ?? 0) * nodes * groups.max;
      })
      .reduce((sum, count) => sum + count, 0);
    return vcpus === 0 ? [] : [{ name, code, vcpus }];
  });
}
