export const epoch = `
-- An epoch is no lower than the time in ms at which its leader claimed the turn.
ALTER TABLE turns ALTER COLUMN epoch TYPE bigint;
`;
