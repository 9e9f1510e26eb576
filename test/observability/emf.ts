import { Ajv } from "ajv";
import { functionMetrics } from "../../events/function-metrics.ts";

const text = (maxLength: number) => ({ type: "string", minLength: 1, maxLength });
const definition = {
  type: "object",
  properties: {
    Name: text(1_024),
    Unit: { enum: ["Count", "Milliseconds", "None"] },
    StorageResolution: { enum: [1, 60] },
  },
  required: ["Name"],
  additionalProperties: false,
};
const directive = {
  type: "object",
  properties: {
    Namespace: { ...text(1_024), pattern: "^(?!AWS/)[\\w./#:-]+$" },
    Dimensions: {
      type: "array",
      minItems: 1,
      items: { type: "array", items: text(250), minItems: 1, maxItems: 30, uniqueItems: true },
    },
    Metrics: { type: "array", items: definition, minItems: 1, maxItems: 100 },
  },
  required: ["Namespace", "Dimensions", "Metrics"],
  additionalProperties: false,
};

/**
 * A document of CloudWatch's embedded metric format, by the rules of its specification:
 * https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
 */
const isDocument = new Ajv({ strict: false }).compile({
  type: "object",
  properties: {
    _aws: {
      type: "object",
      properties: {
        Timestamp: { type: "integer", minimum: 1_600_000_000_000 },
        CloudWatchMetrics: { type: "array", items: directive, minItems: 1 },
      },
      required: ["Timestamp", "CloudWatchMetrics"],
      additionalProperties: false,
    },
  },
  required: ["_aws"],
});

interface Document {
  _aws: {
    CloudWatchMetrics: {
      Namespace: string;
      Dimensions: string[][];
      Metrics: { Name: string; Unit?: string }[];
    }[];
  };
  [member: string]: unknown;
}

/** A metric of a document, with its dimension and its values. */
export interface Measured {
  namespace: string;
  name: string;
  dimensions: Record<string, unknown>;
  values: unknown[];
}

/**
 * Reads a line as CloudWatch does.
 * @throws Error when it is no document, when a member that it names is missing or of the wrong kind, or when
 *   there is anything in it beside metrics and their dimensions
 */
export function readEmf(line: string): Measured[] {
  if (line.includes("\n")) throw new Error("A document is one line.");
  const document = JSON.parse(line) as Document;
  if (!isDocument(document)) throw new Error(`${JSON.stringify(isDocument.errors)} of ${line}`);
  const named = new Set(["_aws"]);
  const measured = document._aws.CloudWatchMetrics.flatMap(({ Namespace, Dimensions, Metrics }) =>
    Dimensions.flatMap((dimensions) =>
      Metrics.map(({ Name }) => {
        for (const member of [...dimensions, Name]) named.add(member);
        if (!(Name in functionMetrics)) throw new Error(`${Name} is not known.`);
        const entries = dimensions.map((dimension) => [dimension, document[dimension]]);
        if (entries.some(([, value]) => typeof value !== "string")) {
          throw new Error(`A dimension has no value: ${line}`);
        }
        const values = [document[Name]].flat();
        const isNumbers = values.every((value) => typeof value === "number");
        if (!isNumbers || values.length === 0 || values.length > 100) {
          throw new Error(`${Name} has wrong values: ${line}`);
        }
        return {
          namespace: Namespace,
          name: Name,
          dimensions: Object.fromEntries(entries),
          values,
        };
      }),
    ),
  );
  const stray = Object.keys(document).filter((member) => !named.has(member));
  if (stray.length > 0) throw new Error(`${stray.join()} is no metric: ${line}`);
  return measured;
}
