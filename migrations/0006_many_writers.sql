-- For several writers: a change of a key says which state it was made from, and a batch of usage
-- that is sent again is recognised.

ALTER TABLE keys ADD COLUMN version INTEGER NOT NULL DEFAULT 1;

CREATE TABLE batches (
    id          TEXT PRIMARY KEY,
    recorded_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX batches_recorded_at ON batches (recorded_at);
