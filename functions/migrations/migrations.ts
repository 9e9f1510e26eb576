import { history } from "./0001_history.ts";
import { epoch } from "./0002_epoch.ts";
import { revisions } from "./0003_revisions.ts";

/** One step to the newest schema. It is never changed once it was applied anywhere: another one follows. */
export interface Migration {
  /** How the database notes that it was applied. */
  name: string;
  sql: string;
}

/**
 * All of them, in the order in which they are applied. They are part of the code, so that a bundle holds
 * the schema that it needs.
 */
export const migrations: readonly Migration[] = [
  { name: "0001_history.sql", sql: history },
  { name: "0002_epoch.sql", sql: epoch },
  { name: "0003_revisions.sql", sql: revisions },
];
