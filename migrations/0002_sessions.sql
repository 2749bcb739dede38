-- Browsers that have signed in, and requests found by their id.

-- Only hashes: of the session's id, and of the key it was opened with.
CREATE TABLE sessions (
    sha256            BLOB PRIMARY KEY CHECK (length(sha256) = 32),
    principal         TEXT NOT NULL,              -- "owner" or a key's id
    credential_sha256 BLOB NOT NULL CHECK (length(credential_sha256) = 32),
    created_at        INTEGER NOT NULL,
    seen_at           INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX usage_request ON usage (request_id);
