-- Notes of keys, and links that sign a person in once.

ALTER TABLE keys ADD COLUMN note text COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX keys_by_name ON keys (lower(name), id);

-- Only the hash of the token in the link. `ending`: used, or revoked by the owner.
CREATE TABLE invitations (
    id         text COLLATE "C" PRIMARY KEY,
    sha256     bytea NOT NULL UNIQUE CHECK (length(sha256) = 32),
    key_id     text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    gives_key  boolean NOT NULL,                  -- the person gets a new secret of the key
    ending     text COLLATE "C" CHECK (ending IN ('used', 'revoked')),
    ended_at   bigint
);
CREATE INDEX invitations_created ON invitations (created_at, id);
