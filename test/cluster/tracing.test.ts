import { describe, expect, test } from "vitest";
import example from "../../axon.config.ts";
import { defineDeployment } from "../../cluster/deployment.ts";
import {
  baseObjects,
  type KubernetesObject,
  revisionConfig,
} from "../../cluster/objects/objects.ts";
import { tracingVariables } from "../../cluster/tracing.ts";
import { machineOf, settings } from "./deployments.ts";

const { tracing: _, ...untraced } = example;
const traced = defineDeployment({
  ...untraced,
  tracing: { endpoint: "http://otel.internal:4318", contentTenants: ["acme", "rival"] },
});

const named = (objects: readonly KubernetesObject[], kind: string, name: string) =>
  objects.find((one) => one.kind === kind && one.metadata?.name === name);

describe("a deployment that says where traces go", () => {
  test("tells functions and pods of it, and samples one turn in twenty", () => {
    const variables = {
      OTEL_EXPORTER_OTLP_ENDPOINT: "http://otel.internal:4318",
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
      OTEL_TRACES_SAMPLER_ARG: "0.05",
    };
    expect(tracingVariables(traced)).toEqual(variables);
    const relay = named(baseObjects(traced, settings, { machineOf }), "ConfigMap", "axon-relay");
    expect(relay).toMatchObject({ data: variables });
    expect(relay).not.toHaveProperty("data.AXON_TRACE_CONTENT_TENANTS");
    const [revision] = traced.models.flatMap(({ revisions }) => revisions);
    if (revision === undefined) throw new Error("The example has a revision.");
    expect(revisionConfig(traced, revision, settings)).toMatchObject({
      data: { ...variables, AXON_TRACE_CONTENT_TENANTS: "acme,rival" },
    });
  });

  test("lets pods through to the collector, within the VPC", () => {
    const policy = named(
      baseObjects(traced, settings, { machineOf }),
      "NetworkPolicy",
      "axon-stores",
    );
    expect(policy).toMatchObject({
      spec: {
        egress: expect.arrayContaining([
          {
            to: [{ ipBlock: { cidr: settings.vpcCidr } }],
            ports: [{ protocol: "TCP", port: 4_318 }],
          },
        ]),
      },
    });
  });
});

test("without it nobody is told anything", () => {
  const deployment = defineDeployment(untraced);
  expect(tracingVariables(deployment)).toEqual({});
  const objects = JSON.stringify(baseObjects(deployment, settings, { machineOf }));
  expect(objects).not.toContain("OTEL_");
  expect(objects).not.toContain("4318");
});

test.each(["grpc://otel:4317", "otel:4318", ""])("%s is no address of a collector", (endpoint) => {
  expect(() => defineDeployment({ ...untraced, tracing: { endpoint } })).toThrow(
    /tracing.endpoint/,
  );
});
