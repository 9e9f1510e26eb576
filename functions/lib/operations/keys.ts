import type { ApiKeyCommand } from "../../../events/api-key.ts";
import { keyOperationSchema } from "../../../events/key-operations.ts";
import { type ApiKeyText, newApiKeyText } from "../credentials/api-key-text.ts";
import { type KeyAnswer, keyAnswer, listKeys } from "../credentials/key-projection.ts";
import type { Deps } from "../deps.ts";
import { execute } from "../execute.ts";
import { refusalOf } from "../refusals.ts";
import type { RequestLog } from "../request-log.ts";
import { apiKeys } from "../streams.ts";

export type KeyOpsAnswer =
  | {
      ok: true;
      key: KeyAnswer;
      /** The whole key, where a secret was made: shown this once. */
      secret?: string;
    }
  | { ok: true; keys: readonly KeyAnswer[] };

type KeyOpsDeps = Pick<Deps, "log" | "database" | "now">;

/** Whether a payload is for `operateKeys`. */
export function isAboutKeys(payload: unknown): boolean {
  const { command } = (payload ?? {}) as { command?: unknown };
  return typeof command === "string" && command.startsWith("keys-");
}

/** @throws AxonError not_found | invalid_field */
export async function operateKeys(
  deps: KeyOpsDeps,
  payload: unknown,
  log: RequestLog,
): Promise<KeyOpsAnswer> {
  const parsed = keyOperationSchema.safeParse(payload);
  if (!parsed.success) throw refusalOf(parsed.error);
  const operation = parsed.data;
  switch (operation.command) {
    case "keys-create": {
      const { command: _, userId = operation.name, ...asked } = operation;
      const made = newApiKeyText();
      return change(deps, made, log, { type: "IssueKey", ...asked, userId, sha256: made.sha256 });
    }
    case "keys-list": {
      const { tenantId, limit } = operation;
      return { ok: true, keys: await listKeys(deps.database, { tenantId, limit }, deps.now()) };
    }
    case "keys-rotate": {
      const { keyId, graceMs, by } = operation;
      const made = newApiKeyText(keyId);
      return change(deps, made, log, { type: "RotateKey", graceMs, by, sha256: made.sha256 });
    }
    case "keys-revoke": {
      const { keyId, by, reason } = operation;
      return change(deps, { keyId }, log, { type: "RevokeKey", by, reason });
    }
  }
}

type Unstamped<Command> = Command extends unknown ? Omit<Command, "at" | "keyId"> : never;

async function change(
  { log: eventLog, now }: KeyOpsDeps,
  { keyId, text }: { keyId: string } & Partial<ApiKeyText>,
  log: RequestLog,
  asked: Unstamped<ApiKeyCommand>,
): Promise<KeyOpsAnswer> {
  log.add({ keyId });
  const at = now();
  const { state, events } = await execute(eventLog, apiKeys, keyId, () => ({
    ...asked,
    at,
    keyId,
  }));
  if (state.status === "none")
    throw new Error(`The key ${keyId} is not there after ${asked.type}.`);
  log.info("commanded", { command: asked.type, events: events.map(({ type }) => type) });
  return { ok: true, key: keyAnswer(state, at), ...(text !== undefined && { secret: text }) };
}
