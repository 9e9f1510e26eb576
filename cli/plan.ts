import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import {
  type Deployment,
  DeploymentError,
  type DeploymentInput,
  defineDeployment,
} from "../cluster/deployment.ts";
import { planDeployment } from "../cluster/plan/plan.ts";
import { defineCommand } from "./command.ts";
import { planReport } from "./plan-report.ts";
import { CommandError } from "./stage.ts";

export const planCommand = defineCommand({
  help: `axon plan: what a deployment will be, before anything of it is.

  axon plan                  tables: memory of each GPU, time of a token, groups, monthly cost
  axon plan --json           the same as one JSON object

Options
  --config FILE    the deployment (default: axon.config.ts in this folder)

Nothing is asked of AWS: all of it is arithmetic over the file and the tables of instances and prices in
cluster/plan/. What is refused here is refused by a deployment too. docs/SCALE.md explains the sums.

Exit codes: 0 it can be deployed, though there may be warnings; 1 it is refused, or cannot be read;
2 the command cannot be understood.
`,
  options: { config: { type: "string" }, json: { type: "boolean", default: false } },
  run: plan,
});

async function plan(
  words: readonly string[],
  { config, json }: { config?: string | undefined; json: boolean },
): Promise<number> {
  if (words.length > 0) {
    throw new CommandError("axon plan takes no words. Try axon plan --help.", { exitCode: 2 });
  }
  const planned = planDeployment(await readDeployment(resolve(config ?? "axon.config.ts")));
  const text = json ? `${JSON.stringify(planned, undefined, 2)}\n` : planReport(planned);
  process.stdout.write(text);
  return planned.problems.some(({ severity }) => severity === "refused") ? 1 : 0;
}

async function readDeployment(path: string): Promise<Deployment> {
  if (!existsSync(path)) {
    throw new CommandError(`There is no ${path}. Name another file with --config.`);
  }
  try {
    const module = (await import(pathToFileURL(path).href)) as { default?: DeploymentInput };
    if (module.default === undefined) throw new DeploymentError("it has no default export");
    return defineDeployment(module.default);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new CommandError(`${path} cannot be read: ${why}`, { cause });
  }
}
