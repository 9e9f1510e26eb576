import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import * as aws from "@pulumi/aws";
import * as dockerbuild from "@pulumi/docker-build";
import * as kubernetes from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { type Bundle, bundleFunction, skipFunction } from "./bundle-function.ts";
import type { Evaluation, Made } from "./evaluation.ts";
import { answerOf } from "./lookups.ts";
import { stateOf } from "./made-state.ts";

/**
 * sst.config.ts as `npx sst deploy` would run it, with SST's own components, but for what is outside of
 * this machine: Pulumi's mocks take each resource that is made and answer each question about the account,
 * and a small server stands for the `sst` command, which builds the functions. It is bundled into SST's
 * platform, where its packages are, and runs as a process of its own (evaluate.ts).
 *
 *   AXON_STAGE    the stage
 *   AXON_BUNDLE   "1": functions are really built; otherwise they are taken for built
 *   AXON_RESULT   the file to write the evaluation to, as JSON
 */

const { AXON_STAGE: stage = "test", AXON_RESULT: resultFile = "" } = process.env;
const root = process.cwd();
const platform = join(root, ".sst", "platform");
const work = join(root, "node_modules", ".cache", "axon-stacks", stage);

const made: Made[] = [];
const bundles: Bundle[] = [];

async function answerCommand(method: string, params: unknown): Promise<unknown> {
  if (method !== "Runtime.Build") return { asset: "assets", state: "state", appsyncHttp: "" };
  const [request] = params as unknown[];
  const build = process.env["AXON_BUNDLE"] === "1" ? bundleFunction : skipFunction;
  const bundle = await build(request, { root, folder: work });
  bundles.push(bundle);
  return { handler: bundle.handler, out: bundle.folder, errors: [], sourcemaps: [] };
}

async function startCommandServer(): Promise<void> {
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const { method, params } = JSON.parse(body || "{}") as { method: string; params: unknown };
    const answer = await answerCommand(method, params).then(
      (result) => ({ result }),
      (error: unknown) => ({ error: String(error) }),
    );
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(answer));
  });
  // An idle connection that is closed here just when it is used again would fail the evaluation.
  server.keepAliveTimeout = 300_000;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  server.unref();
  process.env["SST_SERVER"] = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function setGlobals(): Promise<Record<string, unknown>> {
  const globals: Record<string, unknown> = globalThis as never;
  Object.assign(globals, { aws, kubernetes, random, dockerbuild });
  Object.assign(globals, {
    $util: pulumi,
    $output: pulumi.output,
    $resolve: pulumi.all,
    $interpolate: pulumi.interpolate,
    $concat: pulumi.concat,
    $jsonStringify: pulumi.jsonStringify,
    $jsonParse: pulumi.jsonParse,
    $dev: false,
    $config: (config: unknown) => config,
    $cli: {
      ...{ command: "deploy", rpc: "", state: { version: {} } },
      paths: { root, platform, work, home: work },
    },
  });
  process.env["SST_SECRET_ApiKeys"] = "[]";
  await startCommandServer();
  return globals;
}

/** How a resource is to be made; Pulumi's mocks are not told, but the request that they serve says it. */
interface RegisterRequest {
  getType(): string;
  getName(): string;
  getRetainondelete(): boolean;
  getIgnorechangesList(): string[];
  getDependenciesList(): string[];
}
type Register = (request: RegisterRequest, answered: unknown) => unknown;

async function takeResources(app: string): Promise<void> {
  const requests = new Map<string, RegisterRequest>();
  const newResource = (args: pulumi.runtime.MockResourceArgs) => {
    const { type, name } = args;
    const request = requests.get(`${type} ${name}`);
    made.push({
      ...{ type, name, inputs: revealed(args.inputs) },
      retainOnDelete: request?.getRetainondelete() ?? false,
      ignoreChanges: request?.getIgnorechangesList() ?? [],
      dependsOn: request?.getDependenciesList() ?? [],
    });
    return { id: `${name}-id`, state: stateOf(args) };
  };
  await pulumi.runtime.setMocks({ newResource, call: answerOf }, app, stage, false);
  const monitor = pulumi.runtime.getMonitor() as unknown as { registerResource: Register };
  const register = monitor.registerResource.bind(monitor);
  monitor.registerResource = (request, answered) => {
    requests.set(`${request.getType()} ${request.getName()}`, request);
    return register(request, answered);
  };
}

/** By this key Pulumi marks a value as secret. */
const specialKey = "4dabf18193072939515e22adb298388d";

/** Inputs as they are, secret or not: nothing here is one. */
function revealed<T>(value: T): T {
  if (typeof value !== "object" || value === null) return value;
  if (specialKey in value && "value" in value) return revealed(value.value as T);
  if (Array.isArray(value)) return value.map(revealed) as T;
  return Object.fromEntries(Object.entries(value).map(([key, of]) => [key, revealed(of)])) as T;
}

async function evaluate(): Promise<Evaluation> {
  const globals = await setGlobals();
  const { default: config } = await import("../../../sst.config.ts");
  const app = await config.app({ stage });
  globals["$app"] = { ...app, stage, protect: app.protect ?? false };
  await takeResources(app.name);
  globals["sst"] = await import("../../../.sst/platform/src/components/index.ts");
  const { run } = await import("../../../.sst/platform/src/auto/run.ts");
  const outputs: Evaluation["outputs"] = {};
  const program = async () => {
    const printed = await config.run();
    pulumi.output(printed).apply((known) => Object.assign(outputs, known));
    return printed;
  };
  await pulumi.runtime.runInPulumiStack(() => run(program));
  const target = config.console?.autodeploy.target;
  const stageOf = (branch: string) => target?.(pushTo(branch))?.stage;
  const autodeployed = { production: stageOf("production"), main: stageOf("main") };
  return { app, made, bundles, outputs, autodeployed };
}

const pushTo = (branch: string) => ({
  ...{ type: "branch" as const, action: "pushed" as const, branch },
  repo: { id: 1, owner: "axon", repo: "axon" },
  commit: { id: "0", message: "A change" },
  sender: { id: 1, username: "ada" },
});

// Much is made only when what it is made of is known, so the end of `run` is not the end of it: that is
// when nothing is left to wait for. Pulumi fails the process if somebody waits for ever.
const evaluation = await evaluate();
process.once("beforeExit", () => writeFileSync(resultFile, JSON.stringify(evaluation)));
