export const revisions = `
-- What a revision's turns show is asked once a tick: those that are open, the latest, those since a moment.
CREATE INDEX turns_by_revision ON turns (revision, requested_at DESC);
CREATE INDEX turns_by_revision_end ON turns (revision, ended_at DESC) WHERE ended_at IS NOT NULL;
CREATE INDEX turns_open_by_revision ON turns (revision) WHERE status IN ('requested', 'running');

-- The models that the log has rollouts of; the rollouts themselves are read there.
CREATE TABLE rollouts (
  model       text PRIMARY KEY,
  log_version integer NOT NULL
);
`;
