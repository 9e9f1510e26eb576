import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { z } from "zod";
import type { Operation } from "../events/operations.ts";
import { CommandError, localStageFile } from "./stage.ts";

/** The operator's function: that of a deployment which AXON_OPS_FUNCTION names, else the local stage's. */

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
export type Question = { command: Operation["command"] } & Record<string, unknown>;

/**
 * Asks once, and returns the answer.
 * @throws CommandError with what `ops` says where it refuses, or where it cannot be reached.
 */
export async function askOperator(question: Question): Promise<Record<string, unknown>> {
  const { client, name } = findFunction();
  let text: string;
  try {
    const { Payload, FunctionError } = await client.send(
      new InvokeCommand({ FunctionName: name, Payload: JSON.stringify(question) }),
    );
    text = Buffer.from(Payload ?? []).toString("utf8");
    if (FunctionError !== undefined) throw new Error(`it failed: ${text}`);
  } catch (cause) {
    const why = cause instanceof Error && cause.message !== "" ? cause.message : String(cause);
    throw new CommandError(`The function ${name} cannot be asked: ${why}`, { cause });
  } finally {
    client.destroy();
  }
  const answer = answerSchema.parse(JSON.parse(text));
  if (answer.ok) return answer;
  throw new CommandError(answer.error.message);
}

function findFunction(): { client: LambdaClient; name: string } {
  const name = process.env["AXON_OPS_FUNCTION"];
  if (name !== undefined) return { client: new LambdaClient(), name };
  const stage = stageSchema.safeParse(localStageFile());
  if (!stage.success) {
    throw new CommandError(
      "No stage runs here. Start one with `npm start`, or name the function of a deployment by AXON_OPS_FUNCTION.",
    );
  }
  const { endpoint, emulated } = stage.data.functions;
  const client = new LambdaClient({
    endpoint,
    // It takes any; yours are not shown to it.
    ...(emulated && {
      region: "us-east-1",
      credentials: { accessKeyId: "local", secretAccessKey: "local" },
    }),
  });
  return { client, name: "ops" };
}
