export const erasure = `
-- The words of an erased conversation are gone; its rows stay for what was used and when.
ALTER TABLE conversations ADD COLUMN erased_at timestamptz;
-- In the order of DynamoDB's keys, by which erasures and exports go on.
CREATE INDEX conversations_of_tenant ON conversations (tenant_id, id COLLATE "C");

-- A rebuild under way. Its tables stand in the schema that is named here until they take the place of those
-- in use. positions: by shard of the log, the position up to which they know it.
CREATE TABLE rebuilds (
  projection text PRIMARY KEY,
  schema     text NOT NULL,
  migration  text NOT NULL,
  positions  jsonb NOT NULL,
  commits    bigint NOT NULL,
  events     bigint NOT NULL,
  -- How many commits the tables in use knew at the start.
  expected   bigint NOT NULL,
  started_at timestamptz NOT NULL,
  working_ms bigint NOT NULL
);
`;
