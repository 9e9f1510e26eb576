import { readFileSync } from "node:fs";
import { inject } from "vitest";
import type { Evaluation, Made } from "./evaluation.ts";
import type { PolicyStatement } from "./lookups.ts";

const provided = inject("stacks");
if ("failed" in provided) throw new Error(provided.failed);
/** Why there is nothing to test; undefined when there is. */
export const unavailable = "unavailable" in provided ? provided.unavailable : undefined;

/** The resources of one stage, and how to find them. */
export interface Graph extends Evaluation {
  /** All of a type, by the end of its token: `sqs/queue`. */
  all(type: string): Made[];
  /** The one of a type and name. @throws Error when there is none, or more than one */
  one(type: string, name: string): Made;
}

export function graphOf(stage: string): Graph {
  const file = "files" in provided ? provided.files[stage] : undefined;
  const nothing: Evaluation = {
    ...{ app: { name: "" }, made: [], bundles: [], outputs: {}, autodeployed: {} },
  };
  const evaluation =
    file === undefined ? nothing : (JSON.parse(readFileSync(file, "utf8")) as Evaluation);
  const all = (type: string) => evaluation.made.filter((each) => each.type.includes(`${type}:`));
  return {
    ...evaluation,
    all,
    one(type, name) {
      const found = all(type).filter((each) => each.name === name);
      if (found[0] !== undefined && found.length === 1) return found[0];
      const names = all(type).map((each) => each.name);
      throw new Error(
        `${found.length} of ${type} are called ${name}. There are ${names.join(", ")}.`,
      );
    },
  };
}

export const statementsIn = (policy: string): PolicyStatement[] => {
  const { Statement } = JSON.parse(policy) as { Statement: PolicyStatement[] };
  return Statement;
};

/** What a role allows by itself. */
export const statementsOf = ({ inputs }: Made): PolicyStatement[] =>
  (inputs["inlinePolicies"] ?? []).flatMap(({ policy }: { policy: string }) =>
    statementsIn(policy),
  );

/** As one reads it: `action → resource`, the account's own prefix left out. */
export function allowed(role: Made): string[] {
  return statementsOf(role).flatMap(({ Action, Resource }) =>
    Action.flatMap((action) => Resource.map((resource) => `${action} → ${shortArn(resource)}`)),
  );
}

const shortArn = (arn: string) => arn.replace(/^arn:aws:[\w-]+:(us-east-1)?:(\d{12})?:/, "");
