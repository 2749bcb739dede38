-- Keys, small named facts, limit counters, usage rows and their daily sums.
-- Plain SQL of SQLite 3.24 and later, no STRICT or RETURNING: Python 3.11 also runs on older systems.

CREATE TABLE keys (
    id                  TEXT PRIMARY KEY,
    name                TEXT NOT NULL,
    redacted            TEXT NOT NULL,
    sha256              BLOB NOT NULL UNIQUE CHECK (length(sha256) = 32),
    created_at          INTEGER NOT NULL,
    last_used_at        INTEGER,
    expires_at          INTEGER,
    status              TEXT NOT NULL CHECK (status IN ('active', 'disabled', 'revoked')),
    models              TEXT,                     -- a JSON list; NULL: every model
    requests_per_minute INTEGER,                  -- NULL: no limit, here and below
    tokens_per_minute   INTEGER,
    concurrent_requests INTEGER,
    budget_microusd     INTEGER,
    budget_period       TEXT NOT NULL CHECK (budget_period IN ('day', 'week', 'month', 'total')),
    weight              INTEGER NOT NULL,
    previous_sha256     BLOB,                     -- the secret before the last rotation
    previous_until      INTEGER
) WITHOUT ROWID;

-- The owner key's hash, cookie secrets and the like.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- `value` has no type on purpose: whole numbers (money) stay whole.
CREATE TABLE counters (
    scope      TEXT NOT NULL,
    kind       TEXT NOT NULL,
    value      NOT NULL,
    period     TEXT NOT NULL,
    updated_at REAL NOT NULL,
    PRIMARY KEY (scope, kind)
) WITHOUT ROWID;

-- One row per request, pruned after the retention time.
CREATE TABLE usage (
    seq                INTEGER PRIMARY KEY,
    request_id         TEXT NOT NULL,
    at                 REAL NOT NULL,
    key_id             TEXT NOT NULL,
    model              TEXT NOT NULL,
    deployment         TEXT,
    status             TEXT NOT NULL,
    http_status        INTEGER NOT NULL,
    prompt_tokens      INTEGER,
    completion_tokens  INTEGER,
    cached_tokens      INTEGER,
    cache_write_tokens INTEGER,
    reasoning_tokens   INTEGER,
    estimated          INTEGER NOT NULL,
    cost_microusd      INTEGER,
    ttft_ms            INTEGER,
    duration_ms        INTEGER NOT NULL,
    queued_ms          INTEGER NOT NULL,
    stream             INTEGER NOT NULL
);
CREATE INDEX usage_at ON usage (at);
CREATE INDEX usage_key ON usage (key_id);
CREATE INDEX usage_model ON usage (model);

-- Sums of the rows, kept for ever; written in the same transaction as the rows.
CREATE TABLE usage_daily (
    day                TEXT NOT NULL,             -- YYYY-MM-DD, UTC
    key_id             TEXT NOT NULL,
    model              TEXT NOT NULL,
    requests           INTEGER NOT NULL,
    failed             INTEGER NOT NULL,
    prompt_tokens      INTEGER NOT NULL,
    completion_tokens  INTEGER NOT NULL,
    cached_tokens      INTEGER NOT NULL,
    reasoning_tokens   INTEGER NOT NULL,
    estimated_requests INTEGER NOT NULL,
    unpriced_requests  INTEGER NOT NULL,
    cost_microusd      INTEGER NOT NULL,
    ttft_ms_sum        INTEGER NOT NULL,
    ttft_count         INTEGER NOT NULL,
    duration_ms_sum    INTEGER NOT NULL,
    PRIMARY KEY (day, key_id, model)
) WITHOUT ROWID;
