import { InvokeCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { z } from "zod";
import type { SpawnedStage } from "./spawned-stage.ts";

const statusSchema = z.looseObject({
  status: z.string(),
  promoted: z.string().nullable(),
  weights: z.array(z.object({ revision: z.string(), percent: z.number() })),
  groups: z.array(z.looseObject({ groupId: z.string(), revision: z.string(), status: z.string() })),
  rollout: z.looseObject({ phase: z.string(), step: z.number(), percent: z.number() }).nullable(),
  past: z.array(z.looseObject({ rolloutId: z.string(), outcome: z.string(), reason: z.string() })),
});
export type Status = z.infer<typeof statusSchema>;

/**
 * Asks the stage's operator function.
 * @throws Error where it refuses.
 */
export async function operator(
  stage: SpawnedStage,
  question: object,
): Promise<{ status: Status; history?: unknown[] }> {
  const { functions } = z
    .looseObject({ functions: z.object({ endpoint: z.string() }) })
    .parse(await stage.file());
  const client = new LambdaClient({
    ...{ endpoint: functions.endpoint, region: "us-east-1" },
    credentials: { accessKeyId: "local", secretAccessKey: "local" },
  });
  const payload = JSON.stringify(question);
  const { Payload } = await client.send(
    new InvokeCommand({ FunctionName: "ops", Payload: payload }),
  );
  client.destroy();
  const answer = JSON.parse(Buffer.from(Payload ?? []).toString("utf8")) as { ok: boolean };
  if (!answer.ok) throw new Error(`Refused: ${JSON.stringify(answer)}`);
  return z.looseObject({ status: statusSchema }).parse(answer);
}
