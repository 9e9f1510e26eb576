export const origin = `
-- Conversations that another program keeps: each of its requests has one, and the list leaves them out.
ALTER TABLE conversations ADD COLUMN origin text CHECK (origin IN ('api'));
CREATE INDEX conversations_of_people ON conversations (tenant_id, updated_at DESC, id DESC)
  WHERE origin IS NULL;
`;
