import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv, type ErrorObject } from "ajv";
import { validate as daemonSet } from "kubernetes-models/_schemas/IoK8sApiAppsV1DaemonSet";
import { validate as deployment } from "kubernetes-models/_schemas/IoK8sApiAppsV1Deployment";
import { validate as configMap } from "kubernetes-models/_schemas/IoK8sApiCoreV1ConfigMap";
import { validate as namespace } from "kubernetes-models/_schemas/IoK8sApiCoreV1Namespace";
import { validate as service } from "kubernetes-models/_schemas/IoK8sApiCoreV1Service";
import { validate as account } from "kubernetes-models/_schemas/IoK8sApiCoreV1ServiceAccount";
import { validate as networkPolicy } from "kubernetes-models/_schemas/IoK8sApiNetworkingV1NetworkPolicy";
import { validate as budget } from "kubernetes-models/_schemas/IoK8sApiPolicyV1PodDisruptionBudget";
import { validate as clusterRole } from "kubernetes-models/_schemas/IoK8sApiRbacV1ClusterRole";
import { validate as clusterRoleBinding } from "kubernetes-models/_schemas/IoK8sApiRbacV1ClusterRoleBinding";
import { validate as role } from "kubernetes-models/_schemas/IoK8sApiRbacV1Role";
import { validate as roleBinding } from "kubernetes-models/_schemas/IoK8sApiRbacV1RoleBinding";

/**
 * The schemas that an API server holds objects to: Kubernetes' OpenAPI, as the package kubernetes-models has
 * it, and LeaderWorkerSet's own. They let unknown fields pass, which an API server drops or refuses; so where
 * a schema lists its fields, here there may be no others.
 */

interface Schema {
  properties?: Record<string, Schema>;
  items?: Schema;
  additionalProperties?: Schema | boolean;
}

function closed(schema: Schema): Schema {
  const { properties, items, additionalProperties } = schema;
  return {
    ...schema,
    ...(items !== undefined && { items: closed(items) }),
    ...(typeof additionalProperties === "object" && {
      additionalProperties: closed(additionalProperties),
    }),
    ...(properties !== undefined && {
      properties: Object.fromEntries(
        Object.entries(properties).map(([name, value]) => [name, closed(value)]),
      ),
      additionalProperties: false,
    }),
  };
}

const crd = JSON.parse(readFileSync(join(import.meta.dirname, "data", "lws-crd.json"), "utf8")) as {
  openAPIV3Schema: Schema;
};
const ajv = new Ajv({ strict: false, validateFormats: false, allErrors: true });
const leaderWorkerSet = ajv.compile(closed(crd.openAPIV3Schema));
/** The part of the same schema that is a pod's template: closed, for whatever else has one. */
const podTemplate = ajv.compile(
  closed(
    crd.openAPIV3Schema.properties?.["spec"]?.properties?.["leaderWorkerTemplate"]?.properties?.[
      "workerTemplate"
    ] ?? {},
  ),
);

interface Validator {
  (data: unknown): boolean;
  errors?: ErrorObject[] | null;
}

const validators: Record<string, Validator> = {
  "leaderworkerset.x-k8s.io/v1 LeaderWorkerSet": leaderWorkerSet,
  "apps/v1 DaemonSet": daemonSet as Validator,
  "apps/v1 Deployment": deployment as Validator,
  "v1 ConfigMap": configMap as Validator,
  "v1 Namespace": namespace as Validator,
  "v1 Service": service as Validator,
  "v1 ServiceAccount": account as Validator,
  "networking.k8s.io/v1 NetworkPolicy": networkPolicy as Validator,
  "policy/v1 PodDisruptionBudget": budget as Validator,
  "rbac.authorization.k8s.io/v1 ClusterRole": clusterRole as Validator,
  "rbac.authorization.k8s.io/v1 ClusterRoleBinding": clusterRoleBinding as Validator,
  "rbac.authorization.k8s.io/v1 Role": role as Validator,
  "rbac.authorization.k8s.io/v1 RoleBinding": roleBinding as Validator,
};

interface AnyObject {
  apiVersion?: string;
  kind?: string;
  metadata?: { name?: string };
  spec?: unknown;
}

/** @returns what an API server would object to. */
export function complaints(object: AnyObject): string[] {
  const kind = `${object.apiVersion} ${object.kind}`;
  const validate = validators[kind];
  if (validate === undefined) return [`There is no schema for ${kind}.`];
  const found = validate(object) ? [] : (validate.errors ?? []);
  const { template } = (object.spec ?? {}) as { template?: unknown };
  if (template !== undefined && !podTemplate(template)) found.push(...(podTemplate.errors ?? []));
  return found.map(
    ({ instancePath, keyword, message, params }) =>
      `${kind} ${object.metadata?.name}${instancePath}: ${message ?? keyword} ${JSON.stringify(params)}`,
  );
}
