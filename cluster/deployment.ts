import * as z from "zod";
import { samplingSchema } from "../events/sampling.ts";

/**
 * What a deployment is made of, as `axon.config.ts` states it. Shapes and ranges are checked here;
 * whether the models fit the machines is the plan's question (cluster/plan/).
 */

const name = z
  .string()
  .regex(/^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$/, "lower-case letters, digits and dashes, 40 at most");

/** The numbers of a Llama-architecture checkpoint that memory and time depend on (its config.json). */
const modelShapeSchema = z.strictObject({
  /** All weights, embeddings included. */
  parameters: z.number().int().positive(),
  layers: z.int().min(1),
  hiddenSize: z.int().min(1),
  attentionHeads: z.int().min(1),
  keyValueHeads: z.int().min(1),
  headSize: z.int().min(1),
  vocabularySize: z.int().min(1),
  /** The output head is the input embedding; false when it is left out. */
  tiedEmbeddings: z.boolean().optional(),
  /** How the weights are stored and multiplied. */
  dtype: z.enum(["float32", "bfloat16", "float16", "fp8", "int8", "int4"]),
});
export type ModelShape = z.infer<typeof modelShapeSchema>;

const vllmSchema = z.strictObject({
  kind: z.literal("vllm"),
  /** Its image; it must hold aws-ofi-nccl where a group spans nodes. */
  image: z.string().min(1),
  /** How the ranks of several nodes start: by vLLM itself, or by Ray. */
  executor: z.enum(["mp", "ray"]).default("mp"),
  /** Share of each GPU's memory that vLLM may take. */
  gpuMemoryUtilization: z.number().gt(0).max(0.98).default(0.92),
  /** More of `vllm serve`'s own options, as they are. */
  options: z.array(z.string()).default([]),
});

/** Our own engine, on the CPUs of the nodes. */
const embeddedSchema = z.strictObject({
  kind: z.literal("embedded"),
  weights: z.enum(["int8", "f32"]).default("int8"),
});

/** One build of a model, and the group of nodes that serves it. */
const revisionSchema = z.strictObject({
  revision: name,
  /** Folder of the model bucket where its checkpoint lies. */
  weights: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._/-]*[A-Za-z0-9]$/, "a path in the bucket"),
  shape: modelShapeSchema,
  engine: z.discriminatedUnion("kind", [vllmSchema, embeddedSchema]),
  /** EC2's name, such as p4d.24xlarge. */
  instanceType: z.string().min(1),
  /** Nodes of one group. */
  nodes: z.int().min(1).max(16),
  /** GPUs (or ranks) that share each layer; vLLM's advice is those of one node. */
  tensorParallel: z.int().min(1).max(128),
  /** Parts that the layers are cut into, one after the other; vLLM's advice is one a node. */
  pipelineParallel: z.int().min(1).max(16).default(1),
  /** Tokens of prompt and answer together, at most. */
  contextTokens: z.int().min(256).max(1_048_576),
  /** Turns that one group runs at the same time. */
  slots: z.int().min(1).max(1_024),
  /**
   * Groups that there is room for (`max`: each has a node group), and those that the plan counts as always
   * there. How many there are is said by a rollout's `scale`.
   */
  groups: z
    .strictObject({ min: z.int().min(0).max(64), max: z.int().min(1).max(64) })
    .refine(({ min, max }) => min <= max, { message: "min is above max", path: ["min"] }),
});
export type Revision = z.infer<typeof revisionSchema>;

const modelSchema = z.strictObject({
  /** The name that a client asks for. */
  model: name,
  default: z.boolean().default(false),
  systemPrompt: z.string().max(8_192).optional(),
  /** What a request gets that asks for nothing else. */
  sampling: samplingSchema.omit({ seed: true }),
  /** The first takes new turns; the others end what has begun with them. */
  revisions: z.array(revisionSchema).min(1),
});
type DeployedModel = z.infer<typeof modelSchema>;

/** Where the GPUs come from: the market, a reservation of the account, or a capacity block. */
const capacitySchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("on-demand") }),
  z.strictObject({
    kind: z.literal("reservation"),
    id: z.string().regex(/^cr-[0-9a-f]+$/, "cr-…"),
    zone: z.string().min(1),
    /** The cluster placement group that the reservation was made in: it serves no nodes outside of it. */
    placementGroup: z.string().min(1).optional(),
  }),
  z.strictObject({
    kind: z.literal("block"),
    id: z.string().regex(/^cr-[0-9a-f]+$/, "cr-…"),
    zone: z.string().min(1),
  }),
]);

const deploymentSchema = z
  .strictObject({
    region: z.string().regex(/^[a-z]{2}(-[a-z]+)+-\d$/, "such as us-east-1"),
    models: z.array(modelSchema).min(1),
    capacity: capacitySchema.default({ kind: "on-demand" }),
    limits: z
      .strictObject({
        /** Turns of one tenant that are in flight at a time. */
        tenantInFlight: z.int().min(1).default(8),
        ratePerMinute: z.number().positive().default(600),
        rateBurst: z.int().min(1).default(120),
        /** A turn that would wait longer is refused. */
        maxWaitMs: z.int().min(0).default(120_000),
        /** Calls to API Gateway's callback API, of all relays; the account's quota is 10,000. */
        callbacksPerSecond: z.int().min(1).default(8_000),
      })
      .prefault({}),
    relays: z
      .strictObject({
        count: z.int().min(1).max(256).default(2),
        /** They terminate WebSockets themselves, behind a load balancer. */
        frontDoor: z.boolean().default(false),
      })
      .prefault({}),
    /** Tokens are accepted beside API keys when it is set. */
    tokens: z
      .strictObject({ jwksUrl: z.url(), issuer: z.string().min(1), audience: z.string().min(1) })
      .optional(),
    /** Who may administer the cluster; a credential of IAM is always needed. */
    kubernetesApi: z
      .strictObject({
        /** Addresses that its API is reached from: where you deploy and operate. */
        from: z.array(z.cidrv4()).min(1).default(["0.0.0.0/0"]),
        /** ARNs of IAM roles, beside whoever deploys first: your operators, your pipeline. */
        administrators: z.array(z.string().regex(/^arn:[^:]+:iam::\d{12}:role\/.+$/)).default([]),
      })
      .prefault({}),
    /** Where traces go; without it nothing is traced. */
    tracing: z
      .strictObject({
        /**
         * A collector that speaks OTLP over HTTP, within reach of the VPC, such as http://otel.internal:4318. It
         * has the credentials of whatever is behind it: those of an address would stand in the deployment.
         */
        endpoint: z.url({ protocol: /^https?$/ }),
        /** Share of the turns that are traced. */
        sampleRatio: z.number().min(0).max(1).default(0.05),
        /** Tenants whose prompts and answers may stand in their traces. */
        contentTenants: z.array(z.string().regex(/^[^,\s]+$/)).default([]),
      })
      .optional(),
    /** Who is told of alarms. */
    alarmEmail: z.email().optional(),
  })
  .refine(({ models }) => models.filter((model) => model.default).length === 1, {
    message: "exactly one model must be the default",
    path: ["models"],
  })
  .refine(({ models }) => isUnique(models.map(({ model }) => model)), {
    message: "each name must be there once",
    path: ["models"],
  })
  .refine(({ models }) => isUnique(models.flatMap(revisionNames)), {
    message: "each revision must be there once",
    path: ["models"],
  })
  .refine(({ models }) => haveOwnGroups(models.flatMap(revisionNames)), {
    message: "no revision may be called as another's groups are: its name, a dash and a number",
    path: ["models"],
  });

export type Deployment = z.infer<typeof deploymentSchema>;
export type DeploymentInput = z.input<typeof deploymentSchema>;

/** Its message names each field that is wrong. */
export class DeploymentError extends Error {
  override readonly name = "DeploymentError";
}

/** @throws DeploymentError */
export function defineDeployment(input: DeploymentInput): Deployment {
  const result = deploymentSchema.safeParse(input);
  if (result.success) return result.data;
  const problems = result.error.issues.map(
    ({ path, message }) => `  ${path.map(String).join(".")}: ${message}`,
  );
  throw new DeploymentError(`axon.config.ts cannot be deployed:\n${problems.join("\n")}`);
}

function revisionNames({ revisions }: DeployedModel): string[] {
  return revisions.map(({ revision }) => revision);
}

/**
 * Groups are called `<revision>-<number>`, and LeaderWorkerSet calls a group's followers that and one number
 * more: `a-1` as a revision beside `a` would meet the followers of a-1, the second group of `a`.
 */
function haveOwnGroups(names: readonly string[]): boolean {
  return !names.some((name) => {
    const base = /^(.+)-\d+$/.exec(name)?.[1];
    return base !== undefined && names.includes(base);
  });
}

function isUnique(names: readonly string[]): boolean {
  return new Set(names).size === names.length;
}
