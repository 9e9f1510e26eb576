import { hostname, userInfo } from "node:os";
import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { z } from "zod";
import type { KeyOperation } from "../events/key-operations.ts";
import type { Operation } from "../events/operations.ts";
import { CommandError, localStageFile } from "./stage.ts";

/**
 * The functions of operators: those of the deployed stage that is named, or which variables name, else the local
 * stage's.
 */

/** As stacks/ name functions: the app of sst.config.ts, the stage, the function. */
const functionOf = (stage: string, name: string): string => `axon-${stage}-${name}`;

const stageSchema = z.looseObject({
  functions: z.object({ endpoint: z.string(), emulated: z.boolean() }),
});

const answerSchema = z.discriminatedUnion("ok", [
  z.looseObject({ ok: z.literal(true) }),
  z.looseObject({
    ok: z.literal(false),
    error: z.object({ code: z.string(), message: z.string(), field: z.string().optional() }),
  }),
]);

/** What is asked (events/operations.ts); what is left out gets its default there. */
export type Question = { command: Operation["command"] | KeyOperation["command"] } & Record<
  string,
  unknown
>;

/**
 * Asks once, and returns the answer.
 * @throws CommandError with what `ops` says where it refuses, or where it cannot be reached.
 */
export function askOperator(question: Question, stage?: string): Promise<Record<string, unknown>> {
  return askFunction({ name: "ops", variable: "AXON_OPS_FUNCTION" }, question, stage);
}

/** A function for operators: by its name here, or the variable that names that of a deployment. */
interface OperatorFunction {
  name: "ops" | "data";
  variable: "AXON_OPS_FUNCTION" | "AXON_DATA_FUNCTION";
}

/** As `askOperator`, of any of them. */
export async function askFunction(
  asked: OperatorFunction,
  question: Record<string, unknown>,
  stage?: string,
): Promise<Record<string, unknown>> {
  const { client, name } = findFunction(asked, stage);
  let text: string;
  try {
    const { Payload, FunctionError } = await client.send(
      new InvokeCommand({ FunctionName: name, Payload: JSON.stringify(question) }),
    );
    text = Buffer.from(Payload ?? []).toString("utf8");
    if (FunctionError !== undefined) throw new Error(`it failed: ${text}`);
  } catch (cause) {
    const why = cause instanceof Error && cause.message !== "" ? cause.message : String(cause);
    throw new CommandError(`The function ${name} cannot be asked: ${why}`, { cause, exitCode: 3 });
  } finally {
    client.destroy();
  }
  const answer = answerSchema.parse(JSON.parse(text));
  if (answer.ok) return answer;
  throw new CommandError(answer.error.message);
}

function findFunction(
  { name: localName, variable }: OperatorFunction,
  stage: string | undefined,
): { client: LambdaClient; name: string } {
  const name = process.env[variable] ?? (stage && functionOf(stage, localName));
  if (name !== undefined) return { client: new LambdaClient(), name };
  const local = stageSchema.safeParse(localStageFile());
  if (!local.success) {
    throw new CommandError(
      "No stage runs here. Start one with `npm start`, or name a deployed one with --stage.",
      { exitCode: 3 },
    );
  }
  const { endpoint, emulated } = local.data.functions;
  const client = new LambdaClient({
    endpoint,
    // It takes any; yours are not shown to it.
    ...(emulated && {
      region: "us-east-1",
      credentials: { accessKeyId: "local", secretAccessKey: "local" },
    }),
  });
  return { client, name: localName };
}

/** For the log: who typed it, and where. */
export function operatorName(): string {
  try {
    return `${userInfo().username}@${hostname()}`;
  } catch {
    return hostname();
  }
}
