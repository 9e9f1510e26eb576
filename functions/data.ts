import type { Context } from "aws-lambda";
import * as z from "zod";
import { type DataOperation, dataOperationSchema } from "../events/data-operations.ts";
import { admissionLimits } from "./lib/admission/admission.ts";
import { type EraseDeps, type Erasure, eraseConversation } from "./lib/data/erase-conversation.ts";
import { eraseTenant, type TenantErasure } from "./lib/data/erase-tenant.ts";
import { erasers } from "./lib/data/erasers.ts";
import { type ExportPage, exportPage } from "./lib/data/export.ts";
import { abandonRebuild, type RebuildProgress, rebuild } from "./lib/data/rebuild.ts";
import { database } from "./lib/database.ts";
import { eventLog } from "./lib/event-log.ts";
import { lambda } from "./lib/lambda.ts";
import { models } from "./lib/models.ts";
import { queues } from "./lib/queues.ts";
import { redis } from "./lib/redis.ts";
import { type RefusalAnswer, refusalAnswer, refusalOf } from "./lib/refusals.ts";
import type { RequestLog } from "./lib/request-log.ts";
import { stack } from "./lib/stack.ts";

/** What came of it. A refusal is an answer, too. */
export type DataAnswer =
  | { ok: true; rebuild: RebuildProgress }
  | { ok: true; erasure: Erasure | TenantErasure }
  | ({ ok: true } & ExportPage)
  | { ok: true; schema: unknown }
  | RefusalAnswer;

/** Of the time that the function has, so much is left to end in. */
const shareOfTime = 0.7;

/**
 * The operator's function for data (docs/DATA.md): it rebuilds, erases and exports, as a payload of
 * events/data-operations.ts says. It has rights that no other function has, and so it is one of its own.
 */
export function data(deps: EraseDeps): (payload: unknown, context: Context) => Promise<DataAnswer> {
  return stack<unknown, DataAnswer>(
    deps,
    { keysOf: () => ({}), refuse: refusalAnswer },
    async (payload, { log, getRemainingTimeInMillis }) => {
      const parsed = dataOperationSchema.safeParse(payload);
      if (!parsed.success) throw refusalOf(parsed.error);
      const { stepMs = 0 } = parsed.data as { stepMs?: number };
      const until = deps.now() + Math.min(stepMs, getRemainingTimeInMillis() * shareOfTime);
      return answer(deps, parsed.data, until, log);
    },
  );
}

async function answer(
  deps: EraseDeps,
  operation: DataOperation,
  until: number,
  log: RequestLog,
): Promise<DataAnswer> {
  switch (operation.command) {
    case "rebuild": {
      const { projection, abandon } = operation;
      const progress = abandon
        ? await abandonRebuild(deps, projection)
        : await rebuild(deps, { projection, until });
      log.info("rebuild", { ...progress });
      return { ok: true, rebuild: progress };
    }
    case "erase": {
      const { conversationId, tenantId, after = "" } = operation;
      const erasure =
        conversationId !== undefined
          ? await eraseConversation(deps, { conversationId, until }, log)
          : await eraseTenant(deps, { tenantId: tenantId ?? "", after, until }, log);
      return { ok: true, erasure };
    }
    case "export": {
      const { conversationId, tenantId, events, after } = operation;
      log.info("export", { of: conversationId ?? tenantId });
      return { ok: true, ...(await exportPage(deps, { conversationId, tenantId, events, after })) };
    }
    case "help":
      return { ok: true, schema: z.toJSONSchema(dataOperationSchema, { io: "input" }) };
  }
}

export const handler = lambda(data, [
  eventLog,
  erasers,
  redis,
  queues,
  database,
  models,
  admissionLimits,
]);
