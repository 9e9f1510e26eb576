import type {
  V1ConfigMap,
  V1Deployment,
  V1PodDisruptionBudget,
  V1PodSpec,
  V1Service,
} from "@kubernetes/client-node";
import type { Deployment } from "../deployment.ts";
import { tracingVariables } from "../tracing.ts";
import { labelsOf, names, namespace, ports, scrapeAnnotations } from "./names.ts";
import { confined, variables } from "./pod-parts.ts";
import type { ClusterSettings } from "./settings.ts";

/** For connections to move after SIGTERM, and for the load balancer to hear of it before. */
const drainSeconds = 30;
const noticeSeconds = 5;

const labels = labelsOf("relay");
const metadata = { name: names.relay, namespace, labels };

/** The relays share nothing but Redis: one that goes is replaced by the others within 3 s. */
export function relayObjects(
  deployment: Deployment,
  settings: ClusterSettings,
): [V1ConfigMap, V1Deployment, V1PodDisruptionBudget, ...V1Service[]] {
  const budget: V1PodDisruptionBudget = {
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata,
    spec: { maxUnavailable: 1, selector: { matchLabels: labels } },
  };
  const relay: V1Deployment = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata,
    spec: {
      replicas: deployment.relays.count,
      selector: { matchLabels: labels },
      strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
      template: {
        metadata: { labels, annotations: scrapeAnnotations },
        spec: relayPod(deployment, settings),
      },
    },
  };
  const door = deployment.relays.frontDoor ? [frontDoor(settings)] : [];
  return [relayConfig(deployment, settings), relay, budget, ...door];
}

function relayConfig(deployment: Deployment, { relay }: ClusterSettings): V1ConfigMap {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata,
    data: {
      AWS_REGION: deployment.region,
      AXON_CONNECTIONS_ENDPOINT: relay.connectionsEndpoint,
      AXON_CALLBACKS_PER_SECOND: String(deployment.limits.callbacksPerSecond),
      ...tracingVariables(deployment),
      ...(deployment.relays.frontDoor && { AXON_FUNCTIONS: JSON.stringify(relay.functions) }),
    },
  };
}

function relayPod({ relays }: Deployment, { image }: ClusterSettings): V1PodSpec {
  const probe = { timeoutSeconds: 2, periodSeconds: 5 };
  return {
    serviceAccountName: names.relayAccount,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: drainSeconds + noticeSeconds + 10,
    topologySpreadConstraints: ["topology.kubernetes.io/zone", "kubernetes.io/hostname"].map(
      (topologyKey) => ({
        ...{ maxSkew: 1, topologyKey, whenUnsatisfiable: "ScheduleAnyway" },
        labelSelector: { matchLabels: labels },
      }),
    ),
    containers: [
      {
        name: "relay",
        image,
        args: ["dataplane/relay.ts"],
        env: variables({
          AXON_DRAIN_MS: drainSeconds * 1_000,
          AXON_PROBES: `0.0.0.0:${ports.probes}`,
          ...(relays.frontDoor && { RELAY_LISTEN: `0.0.0.0:${ports.door}` }),
        }),
        envFrom: [
          { configMapRef: { name: names.relay } },
          { secretRef: { name: names.redisSecret } },
        ],
        ports: [
          { name: "probes", containerPort: ports.probes },
          ...(relays.frontDoor ? [{ name: "door", containerPort: ports.door }] : []),
        ],
        readinessProbe: { httpGet: { path: "/ready", port: ports.probes }, ...probe },
        livenessProbe: { httpGet: { path: "/live", port: ports.probes }, ...probe },
        // The door stays open until nobody is sent to it any more.
        ...(relays.frontDoor && {
          lifecycle: { preStop: { sleep: { seconds: noticeSeconds } } },
        }),
        resources: { requests: { cpu: "1", memory: "512Mi" }, limits: { memory: "1Gi" } },
        securityContext: confined,
      },
    ],
  };
}

/**
 * A Network Load Balancer with TLS, straight to the pods (AWS Load Balancer Controller, "Service
 * annotations"). It sets no idle timeout below the relay's pings of 30 s.
 */
function frontDoor({ relay }: ClusterSettings): V1Service {
  const annotation = "service.beta.kubernetes.io/aws-load-balancer";
  const tls = relay.certificateArn !== undefined;
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: {
      ...metadata,
      annotations: {
        [`${annotation}-scheme`]: "internet-facing",
        [`${annotation}-nlb-target-type`]: "ip",
        [`${annotation}-healthcheck-protocol`]: "HTTP",
        [`${annotation}-healthcheck-path`]: "/health",
        [`${annotation}-healthcheck-port`]: String(ports.door),
        [`${annotation}-healthcheck-interval`]: "10",
        ...(relay.certificateArn !== undefined && {
          [`${annotation}-ssl-cert`]: relay.certificateArn,
          [`${annotation}-ssl-ports`]: "443",
        }),
      },
    },
    spec: {
      type: "LoadBalancer",
      loadBalancerClass: "service.k8s.aws/nlb",
      selector: labels,
      ports: [{ name: "door", port: tls ? 443 : 80, targetPort: ports.door, protocol: "TCP" }],
    },
  };
}
