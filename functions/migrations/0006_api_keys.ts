export const apiKeys = `
-- What people see of API keys: a projection of the streams key/<id>. Credentials are checked against the
-- log itself; neither secrets nor their hashes are here.
CREATE TABLE api_keys (
  id          text PRIMARY KEY,
  tenant_id   text NOT NULL,
  user_id     text NOT NULL,
  name        text NOT NULL,
  scopes      text[] NOT NULL,
  issued_at   timestamptz NOT NULL,
  rotated_at  timestamptz,
  -- Until when the secrets before the last rotation are good.
  older_until timestamptz,
  expires_at  timestamptz,
  revoked_at  timestamptz,
  log_version integer NOT NULL
);

CREATE INDEX api_keys_by_tenant ON api_keys (tenant_id, issued_at DESC, id);
`;
