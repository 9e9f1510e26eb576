import { z } from "zod";
import { keyOperationSchema } from "../events/key-operations.ts";
import { scopes } from "../events/scopes.ts";
import {
  defineCommand,
  exitCodesHelp,
  given,
  numberOf,
  operatorHelp,
  operatorOptions,
  type Values,
} from "./command.ts";
import { durationOf } from "./moments.ts";
import { askOperator, operatorName, type Question } from "./operator.ts";
import { CommandError } from "./stage.ts";
import { textTable } from "./text-table.ts";

const keySchema = z.looseObject({
  keyId: z.string(),
  tenantId: z.string(),
  name: z.string(),
  scopes: z.array(z.string()),
  status: z.string(),
  issuedAt: z.number(),
  olderUntil: z.number().nullable(),
  expiresAt: z.number().nullable(),
});
type Key = z.infer<typeof keySchema>;
const changedSchema = z.looseObject({ key: keySchema, secret: z.string().optional() });
const listedSchema = z.looseObject({ keys: z.array(keySchema) });

const keyOptions = {
  ...operatorOptions,
  name: { type: "string" },
  tenant: { type: "string" },
  user: { type: "string" },
  scopes: { type: "string" },
  expires: { type: "string" },
  grace: { type: "string" },
  reason: { type: "string" },
  limit: { type: "string" },
} as const;

export type KeysOptions = Values<typeof keyOptions>;

export const keysCommand = defineCommand({
  help: `axon keys: API keys of tenants, with what each may do.

  axon keys create --name NAME  issues a key and shows it, this once
  axon keys list                which there are, newest first
  axon keys rotate ID           makes a new secret for a key and shows it, this once
  axon keys revoke ID           ends a key for ever, and the connections that it has opened

Options
  create: --tenant NAME  whose it is (default: local, where the stage runs on this machine)
          --scopes LIST  what it may do, with commas between (default chat,history)
          --user NAME    who uses it, for the record (default: the key's name)
          --expires 90d  for how long it is good (default: until it is revoked)
  list:   --tenant NAME  of one tenant
          --limit N      the newest N (default 200)
  rotate: --grace 24h    for how long the secrets before the new one stay good; 0s ends them at once
  revoke: --reason TEXT  for the log

Scopes
${Object.entries(scopes)
  .map(([scope, what]) => `  ${scope.padEnd(10)} ${what}`)
  .join("\n")}

Everywhere
${operatorHelp}
${exitCodesHelp}`,
  words: ["create", "list", "rotate", "revoke"],
  options: keyOptions,
  run: keys,
});

/** Returns the exit code. @throws CommandError */
export async function keys(words: readonly string[], options: KeysOptions): Promise<number> {
  const question = questionOf(words, options);
  const wanted = keyOperationSchema.safeParse(question);
  if (!wanted.success) {
    const { path = [], message = "" } = wanted.error.issues[0] ?? {};
    throw wrong(`${optionNames[String(path[0])] ?? path.join(".")} ${message}.`);
  }
  const answer = await askOperator(question, options.stage);
  if (options.json) process.stdout.write(`${JSON.stringify(answer)}\n`);
  else if (question.command === "keys-list") {
    process.stdout.write(listText(listedSchema.parse(answer).keys));
  } else {
    process.stdout.write(changeText(changedSchema.parse(answer)));
  }
  return 0;
}

const optionNames: Record<string, string> = {
  ...{ name: "--name", tenantId: "--tenant", userId: "--user", scopes: "--scopes" },
  ...{ limit: "--limit", graceMs: "--grace", reason: "--reason", keyId: "ID" },
};

function questionOf([command, keyId, ...rest]: readonly string[], options: KeysOptions): Question {
  if (rest.length > 0) throw wrong(`"${rest[0]}" is one word too many.`);
  const { name, tenant, user: userId, reason } = options;
  const by = operatorName();
  switch (command) {
    case "create": {
      if (keyId !== undefined) throw wrong(`"${keyId}" is one word too many.`);
      if (name === undefined) throw wrong("Say what it is for: axon keys create --name NAME.");
      const expiresAt =
        options.expires === undefined
          ? undefined
          : Date.now() + durationOf("expires", options.expires);
      const scopes = scopesOf(options.scopes);
      return {
        command: "keys-create",
        ...{ name, tenantId: tenant ?? localTenant(options.stage), by },
        ...given({ userId, scopes, expiresAt }),
      };
    }
    case "list": {
      if (keyId !== undefined) throw wrong(`"${keyId}" is one word too many.`);
      const limit = numberOf("limit", options.limit);
      return { command: "keys-list", ...given({ tenantId: tenant, limit }) };
    }
    case "rotate": {
      const { grace } = options;
      const graceMs = grace === undefined ? undefined : durationOf("grace", grace);
      return { command: "keys-rotate", keyId: named(keyId, command), by, ...given({ graceMs }) };
    }
    case "revoke":
      return { command: "keys-revoke", keyId: named(keyId, command), by, ...given({ reason }) };
    default:
      throw wrong(
        command === undefined
          ? "Say what to do: axon keys list, for instance."
          : `There is no "axon keys ${command}".`,
      );
  }
}

function scopesOf(list: string | undefined): string[] | undefined {
  const named = list?.split(",").map((scope) => scope.trim());
  const unknown = named?.find((scope) => !Object.hasOwn(scopes, scope));
  if (unknown === undefined) return named;
  throw wrong(`--scopes takes ${Object.keys(scopes).join(", ")}, not "${unknown}".`);
}

/** The development key's tenant, which the page and the terminal of a local stage use. */
function localTenant(stage: string | undefined): string {
  if (process.env["AXON_OPS_FUNCTION"] === undefined && stage === undefined) return "local";
  throw wrong("Say whose it is: --tenant NAME.");
}

/** A whole key is taken, too, so that nobody has to cut its id out; nothing else of it is sent. */
function named(text: string | undefined, command: string): string {
  if (text === undefined) throw wrong(`Name the key: axon keys ${command} ID.`);
  return /^axon_([0-9a-z]{16})(_|$)/.exec(text)?.[1] ?? text;
}

const wrong = (message: string): CommandError =>
  new CommandError(`${message} Try axon keys --help.`, { exitCode: 2 });

const timeText = (ms: number | null): string =>
  ms === null ? "never" : new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");

function listText(all: readonly Key[]): string {
  if (all.length === 0) return "There are no keys. axon keys create --name NAME issues one.\n";
  const rows = all.map((key) => [
    ...[key.keyId, key.tenantId, key.name, key.scopes.join(","), key.status],
    ...[timeText(key.issuedAt), timeText(key.expiresAt)],
  ]);
  const header = ["id", "tenant", "name", "scopes", "status", "issued", "expires"];
  return textTable(header, rows, [])
    .map((line) => `${line}\n`)
    .join("");
}

function changeText({ key, secret }: z.infer<typeof changedSchema>): string {
  const { keyId, tenantId, name, scopes, status, olderUntil, expiresAt } = key;
  const lines = [
    ...(secret === undefined ? [] : [secret, "", "It is shown this once: keep it now.", ""]),
    `id       ${keyId}`,
    `name     ${name}`,
    `tenant   ${tenantId}`,
    `scopes   ${scopes.join(", ")}`,
    `status   ${status}`,
    `expires  ${timeText(expiresAt)}`,
    ...(olderUntil === null
      ? []
      : [`before   its older secrets are good until ${timeText(olderUntil)}`]),
  ];
  return lines.map((line) => `${line}\n`).join("");
}
