-- Conversations of people who signed in. `person` is "owner" or a key's id, times are milliseconds
-- since 1970, `changed` is the number of the write that changed the row last.

CREATE TABLE history_people (
    person     TEXT PRIMARY KEY,
    seq        INTEGER NOT NULL,          -- the number of the last write
    forgotten  INTEGER NOT NULL,          -- erasures up to this number are no longer on record
    used_bytes INTEGER NOT NULL,
    revoked_at INTEGER                    -- when the key was first seen as revoked
) WITHOUT ROWID;

CREATE TABLE history_settings (
    person  TEXT PRIMARY KEY,
    value   TEXT NOT NULL,                -- a JSON object
    version INTEGER NOT NULL,
    changed INTEGER NOT NULL
);

CREATE TABLE history_conversations (
    person  TEXT NOT NULL,
    id      TEXT NOT NULL,
    title   TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    pinned  INTEGER NOT NULL,
    model   TEXT NOT NULL,
    deleted INTEGER,                      -- in the trash since then
    version INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    size    INTEGER NOT NULL,             -- of its texts, in bytes
    details TEXT NOT NULL,                -- JSON: system prompt, parameters, choices, draft
    words   TEXT NOT NULL,                -- title and system prompt, folded for the search
    PRIMARY KEY (person, id)
);
CREATE INDEX history_conversations_changed ON history_conversations (person, changed);
CREATE INDEX history_conversations_updated ON history_conversations (updated);
CREATE INDEX history_conversations_deleted ON history_conversations (deleted)
    WHERE deleted IS NOT NULL;

CREATE TABLE history_erased (
    person    TEXT NOT NULL,
    id        TEXT NOT NULL,
    changed   INTEGER NOT NULL,
    erased_at INTEGER NOT NULL,
    PRIMARY KEY (person, id)
) WITHOUT ROWID;
CREATE INDEX history_erased_changed ON history_erased (person, changed);
CREATE INDEX history_erased_at ON history_erased (erased_at);

-- A message that was removed stays as an empty row with the state "removed".
CREATE TABLE history_messages (
    person       TEXT NOT NULL,
    conversation TEXT NOT NULL,
    id           TEXT NOT NULL,
    parent       TEXT,
    state        TEXT NOT NULL,           -- of an answer; "asked": a question
    created      INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    changed      INTEGER NOT NULL,
    size         INTEGER NOT NULL,
    words        TEXT NOT NULL,           -- text and file names, folded for the search
    body         TEXT NOT NULL,           -- JSON
    PRIMARY KEY (person, conversation, id)
);
CREATE INDEX history_messages_changed ON history_messages (person, conversation, changed);
CREATE INDEX history_messages_open ON history_messages (person, conversation) WHERE state = 'open';

CREATE TABLE history_files (
    person       TEXT NOT NULL,
    id           TEXT NOT NULL,
    conversation TEXT NOT NULL,
    name         TEXT NOT NULL,
    type         TEXT NOT NULL,
    size         INTEGER NOT NULL,
    created      INTEGER NOT NULL,
    content      BLOB NOT NULL,
    PRIMARY KEY (person, id)
);
CREATE INDEX history_files_conversation ON history_files (person, conversation);

-- Read-only links: a copy of what they show, made when the link was made.
CREATE TABLE history_shares (
    person       TEXT NOT NULL,
    id           TEXT NOT NULL,
    token        TEXT NOT NULL UNIQUE,
    conversation TEXT NOT NULL,
    message      TEXT,                    -- NULL: the whole conversation
    title        TEXT NOT NULL,
    created      INTEGER NOT NULL,
    size         INTEGER NOT NULL,        -- with its files
    snapshot     TEXT NOT NULL,           -- JSON
    PRIMARY KEY (person, id)
);
CREATE INDEX history_shares_conversation ON history_shares (person, conversation);

CREATE TABLE history_share_files (
    token   TEXT NOT NULL,
    id      TEXT NOT NULL,
    type    TEXT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (token, id)
);
