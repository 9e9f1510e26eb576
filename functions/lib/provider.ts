import { Logger } from "@aws-lambda-powertools/logger";
import * as z from "zod";
import type { Deps } from "./deps.ts";
import type { MetricSink } from "./emf.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** What every handler has, whatever else it needs. */
type Common = "now" | "logger" | "tracing" | "metrics";

/**
 * How some of a handler's dependencies are made of the environment. A handler lists the providers that it
 * needs, so it demands no variable that it does not use, and its bundle holds no client that it does not
 * use.
 */
export interface Provider<Name extends keyof Deps> {
  names: readonly Name[];
  /** Reads its variables. Nothing is made yet, so that all that is wrong can be told at once. */
  prepare(env: Environment): { problems: string[] } | { make(logger: Logger): Partial<Deps> };
}

export function provider<const Name extends keyof Deps, Schema extends z.ZodType>(
  names: readonly Name[],
  variables: Schema,
  make: (config: z.output<Schema>, logger: Logger) => Pick<Deps, Name>,
): Provider<Name> {
  return {
    names,
    prepare(env) {
      const result = variables.safeParse(env);
      if (!result.success) return { problems: result.error.issues.map(problemOf) };
      return { make: (logger) => make(result.data, logger) };
    },
  };
}

/** Names the variable and what is wrong with it, and never tells what it holds: that may be a secret. */
function problemOf({ path, code, message }: z.core.$ZodIssue): string {
  const problem = code === "unrecognized_keys" ? "has a key that is not known" : message;
  return `${path.map(String).join(".")}: ${problem}`;
}

/** The environment lacks variables, or has wrong ones. The message names each, and none of their values. */
export class ConfigurationError extends Error {
  override readonly name = "ConfigurationError";
  readonly code = "configuration";
  constructor(problems: readonly string[], cause?: unknown) {
    super(`The environment is incomplete. ${problems.join("; ")}`, { cause });
  }
}

const commonSchema = z.object({
  /** CloudWatch's namespace for the stage; without it no metrics are written. */
  AXON_METRICS_NAMESPACE: z
    .string()
    .regex(/^(?!AWS\/)[\w./#:-]{1,255}$/, "letters, digits, and . - _ / # :")
    .optional(),
  LOG_LEVEL: z.enum(["DEBUG", "INFO", "WARN", "ERROR", "SILENT"]).default("INFO"),
});

/**
 * Makes what the providers provide. Connections are opened by the first call that needs them.
 * @throws ConfigurationError
 */
export function provide<Name extends keyof Deps>(
  providers: readonly Provider<Name>[],
  env: Environment,
  tracing?: Deps["tracing"],
): Pick<Deps, Name | Common> {
  const general = commonSchema.safeParse(env);
  const prepared = providers.map((one) => one.prepare(env));
  const problems = prepared.flatMap((one) => ("problems" in one ? one.problems : []));
  if (!general.success) problems.push(...general.error.issues.map(problemOf));
  // Two providers may read the same variable.
  if (problems.length > 0) throw new ConfigurationError([...new Set(problems)]);
  const logger = new Logger({
    serviceName: "axon-functions",
    logLevel: general.data?.LOG_LEVEL ?? "INFO",
  });
  const parts = prepared.map((one) => ("make" in one ? one.make(logger) : {}));
  const common: Pick<Deps, Common> = {
    ...{ now: Date.now, logger, tracing },
    metrics: metricSink(general.data?.AXON_METRICS_NAMESPACE),
  };
  // Each provider has promised its own names, and all of them together are `Name`.
  return Object.assign({}, common, ...parts) as Pick<Deps, Name | Common>;
}

/** Lambda takes every line of the standard output for one of the log, and leaves it as it is. */
function metricSink(namespace: string | undefined): MetricSink | undefined {
  if (namespace === undefined) return undefined;
  return { namespace, write: (line) => void process.stdout.write(`${line}\n`) };
}

/** JSON in a variable, parsed before the schema of what it holds. */
export const json = z.string().transform((text, context): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    context.addIssue({ code: "custom", message: "is not JSON" });
    return z.NEVER;
  }
});
