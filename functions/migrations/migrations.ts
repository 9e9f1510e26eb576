import { history } from "./0001_history.ts";
import { epoch } from "./0002_epoch.ts";
import { revisions } from "./0003_revisions.ts";
import { origin } from "./0004_origin.ts";
import { erasure } from "./0005_erasure.ts";
import { apiKeys } from "./0006_api_keys.ts";
import { operations } from "./0007_operations.ts";

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
  { name: "0004_origin.sql", sql: origin },
  { name: "0005_erasure.sql", sql: erasure },
  { name: "0006_api_keys.sql", sql: apiKeys },
  { name: "0007_operations.sql", sql: operations },
];
