-- Notes of keys, and links that sign a person in once.

ALTER TABLE keys ADD COLUMN note TEXT NOT NULL DEFAULT '';

-- Lists and searches read this index alone, so it has everything that is searched.
DROP INDEX keys_created;
CREATE INDEX keys_created ON keys (created_at, id, name, redacted, status, note);
CREATE INDEX keys_by_name ON keys (name COLLATE NOCASE, id, redacted, status, note);

-- Only the hash of the token in the link. `ending`: used, or revoked by the owner.
CREATE TABLE invitations (
    id         TEXT PRIMARY KEY,
    sha256     BLOB NOT NULL UNIQUE CHECK (length(sha256) = 32),
    key_id     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    gives_key  INTEGER NOT NULL,                  -- 1: the person gets a new secret of the key
    ending     TEXT CHECK (ending IN ('used', 'revoked')),
    ended_at   INTEGER
) WITHOUT ROWID;
CREATE INDEX invitations_created ON invitations (created_at, id);
