-- Conversations of people who signed in. `person` is "owner" or a key's id, times are milliseconds
-- since 1970, `changed` is the number of the write that changed the row last.

CREATE TABLE history_people (
    person     text COLLATE "C" PRIMARY KEY,
    seq        bigint NOT NULL,               -- the number of the last write
    forgotten  bigint NOT NULL,               -- erasures up to this number are no longer on record
    used_bytes bigint NOT NULL,
    revoked_at bigint                         -- when the key was first seen as revoked
);

CREATE TABLE history_settings (
    person  text COLLATE "C" PRIMARY KEY,
    value   text COLLATE "C" NOT NULL,        -- a JSON object
    version bigint NOT NULL,
    changed bigint NOT NULL
);

CREATE TABLE history_conversations (
    person  text COLLATE "C" NOT NULL,
    id      text COLLATE "C" NOT NULL,
    title   text COLLATE "C" NOT NULL,
    created bigint NOT NULL,
    updated bigint NOT NULL,
    pinned  bigint NOT NULL,
    model   text COLLATE "C" NOT NULL,
    deleted bigint,                           -- in the trash since then
    version bigint NOT NULL,
    changed bigint NOT NULL,
    size    bigint NOT NULL,                  -- of its texts, in bytes
    details text COLLATE "C" NOT NULL,        -- JSON: system prompt, parameters, choices, draft
    words   text COLLATE "C" NOT NULL,        -- title and system prompt, folded for the search
    PRIMARY KEY (person, id)
);
CREATE INDEX history_conversations_changed ON history_conversations (person, changed);
CREATE INDEX history_conversations_updated ON history_conversations (updated);
CREATE INDEX history_conversations_deleted ON history_conversations (deleted)
    WHERE deleted IS NOT NULL;

CREATE TABLE history_erased (
    person    text COLLATE "C" NOT NULL,
    id        text COLLATE "C" NOT NULL,
    changed   bigint NOT NULL,
    erased_at bigint NOT NULL,
    PRIMARY KEY (person, id)
);
CREATE INDEX history_erased_changed ON history_erased (person, changed);
CREATE INDEX history_erased_at ON history_erased (erased_at);

-- A message that was removed stays as an empty row with the state "removed".
CREATE TABLE history_messages (
    person       text COLLATE "C" NOT NULL,
    conversation text COLLATE "C" NOT NULL,
    id           text COLLATE "C" NOT NULL,
    parent       text COLLATE "C",
    state        text COLLATE "C" NOT NULL,   -- of an answer; "asked": a question
    created      bigint NOT NULL,
    version      bigint NOT NULL,
    changed      bigint NOT NULL,
    size         bigint NOT NULL,
    words        text COLLATE "C" NOT NULL,   -- text and file names, folded for the search
    body         text COLLATE "C" NOT NULL,   -- JSON
    PRIMARY KEY (person, conversation, id)
);
CREATE INDEX history_messages_changed ON history_messages (person, conversation, changed);
CREATE INDEX history_messages_open ON history_messages (person, conversation) WHERE state = 'open';

CREATE TABLE history_files (
    person       text COLLATE "C" NOT NULL,
    id           text COLLATE "C" NOT NULL,
    conversation text COLLATE "C" NOT NULL,
    name         text COLLATE "C" NOT NULL,
    type         text COLLATE "C" NOT NULL,
    size         bigint NOT NULL,
    created      bigint NOT NULL,
    content      bytea NOT NULL,
    PRIMARY KEY (person, id)
);
CREATE INDEX history_files_conversation ON history_files (person, conversation);

-- Read-only links: a copy of what they show, made when the link was made.
CREATE TABLE history_shares (
    person       text COLLATE "C" NOT NULL,
    id           text COLLATE "C" NOT NULL,
    token        text COLLATE "C" NOT NULL UNIQUE,
    conversation text COLLATE "C" NOT NULL,
    message      text COLLATE "C",            -- NULL: the whole conversation
    title        text COLLATE "C" NOT NULL,
    created      bigint NOT NULL,
    size         bigint NOT NULL,             -- with its files
    snapshot     text COLLATE "C" NOT NULL,   -- JSON
    PRIMARY KEY (person, id)
);
CREATE INDEX history_shares_conversation ON history_shares (person, conversation);

CREATE TABLE history_share_files (
    token   text COLLATE "C" NOT NULL,
    id      text COLLATE "C" NOT NULL,
    type    text COLLATE "C" NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (token, id)
);
