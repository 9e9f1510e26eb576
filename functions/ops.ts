import type { Context } from "aws-lambda";
import * as z from "zod";
import { keyOperationSchema } from "../events/key-operations.ts";
import { operationSchema } from "../events/operations.ts";
import { database } from "./lib/database.ts";
import { eventFacts } from "./lib/event-log.ts";
import { lambda } from "./lib/lambda.ts";
import { models } from "./lib/models.ts";
import { isAboutKeys, operateKeys } from "./lib/operations/keys.ts";
import { type OperatorDeps, stageFacts } from "./lib/operations/operator.ts";
import { type OpsAnswer, runOperation } from "./lib/operations/run-operation.ts";
import { queues } from "./lib/queues.ts";
import { redis } from "./lib/redis.ts";
import { refusalAnswer, refusalOf } from "./lib/refusals.ts";
import { stack } from "./lib/stack.ts";

/** All that may be asked here. Keys are not among what a tenant's operator may ask. */
const payloadSchema = z.discriminatedUnion("command", [
  ...operationSchema.options,
  ...keyOperationSchema.options,
]);

/**
 * The operator's function: commands, and questions about what is and what was, of all tenants. It is told by a
 * JSON payload (events/operations.ts, events/key-operations.ts) and answers with what has come of it. What it
 * records of rollouts the manager acts on; asked again, it changes nothing more.
 */
export function ops(
  deps: OperatorDeps,
): (payload: unknown, context: Context) => Promise<OpsAnswer> {
  return stack<unknown, OpsAnswer>(
    deps,
    { keysOf: () => ({}), refuse: refusalAnswer },
    async (payload, { awsRequestId: invocationId, log }) => {
      if (isAboutKeys(payload)) return operateKeys(deps, payload, log);
      const parsed = operationSchema.safeParse(payload);
      if (!parsed.success) throw refusalOf(parsed.error);
      if (parsed.data.command === "help") {
        return { ok: true, schema: z.toJSONSchema(payloadSchema, { io: "input" }) };
      }
      return runOperation(deps, parsed.data, { tenantId: undefined, invocationId, log });
    },
  );
}

export const handler = lambda(ops, [eventFacts, redis, queues, database, models, stageFacts]);
