export const operations = `
-- What an operator looks at: the newest turns, of one tenant or of all, and those that have ended lately.
CREATE INDEX turns_by_time ON turns (requested_at DESC, id DESC);
CREATE INDEX turns_by_tenant ON turns (tenant_id, requested_at DESC, id DESC);
CREATE INDEX turns_by_end ON turns (ended_at) WHERE ended_at IS NOT NULL;
`;
