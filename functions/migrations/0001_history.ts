export const history = `
-- The history that people read: a projection of the event log, which can be rebuilt from it.
--
-- Each row is written from one stream only, so it does not matter in which order the streams arrive:
-- conversations and conversation_turns from conversation/<id>, turns and messages from turn/<id>.
-- log_version is the version of that stream up to which the row has been told.

CREATE TABLE conversations (
  id          text PRIMARY KEY,
  tenant_id   text NOT NULL,
  title       text NOT NULL,
  turns       integer NOT NULL,
  created_at  timestamptz NOT NULL,
  updated_at  timestamptz NOT NULL,
  log_version integer NOT NULL
);

CREATE INDEX conversations_by_tenant ON conversations (tenant_id, updated_at DESC, id DESC);

CREATE TABLE conversation_turns (
  conversation_id text NOT NULL REFERENCES conversations ON DELETE CASCADE,
  ordinal         integer NOT NULL,
  turn_id         text NOT NULL UNIQUE,
  PRIMARY KEY (conversation_id, ordinal)
);

CREATE TABLE turns (
  id                text PRIMARY KEY,
  tenant_id         text NOT NULL,
  conversation_id   text NOT NULL,
  model             text NOT NULL,
  revision          text NOT NULL,
  status            text NOT NULL
    CHECK (status IN ('requested', 'running', 'completed', 'cancelled', 'failed')),
  sampling          jsonb NOT NULL,
  correlation_id    text NOT NULL,
  cancel_requested  boolean NOT NULL DEFAULT false,
  epoch             integer NOT NULL DEFAULT 0,
  group_id          text,
  leader_id         text,
  finish_reason     text CHECK (finish_reason IN ('stop', 'length', 'cancelled', 'failed')),
  prompt_tokens     integer,
  completion_tokens integer,
  -- queuedMs, firstTokenMs, totalMs
  timings           jsonb,
  error_code        text,
  error_message     text,
  requested_at      timestamptz NOT NULL,
  started_at        timestamptz,
  ended_at          timestamptz,
  log_version       integer NOT NULL
);

CREATE INDEX turns_by_conversation ON turns (conversation_id, requested_at DESC);
CREATE INDEX turns_open ON turns (id) WHERE status IN ('requested', 'running');

CREATE TABLE messages (
  turn_id    text NOT NULL REFERENCES turns ON DELETE CASCADE,
  role       text NOT NULL CHECK (role IN ('user', 'assistant')),
  content    text NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (turn_id, role)
);
`;
