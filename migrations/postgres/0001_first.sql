-- All tables of a database that several gateways share.
-- Text is compared and sorted byte by byte (COLLATE "C"), as SQLite does: the order of ids and
-- names must not depend on the language of the server, and LIKE and ILIKE then fold ASCII only.

CREATE TABLE keys (
    id                  text COLLATE "C" PRIMARY KEY,
    name                text COLLATE "C" NOT NULL,
    redacted            text COLLATE "C" NOT NULL,
    sha256              bytea NOT NULL UNIQUE CHECK (length(sha256) = 32),
    created_at          bigint NOT NULL,
    expires_at          bigint,
    status              text COLLATE "C" NOT NULL CHECK (status IN ('active', 'disabled', 'revoked')),
    models              text COLLATE "C",         -- a JSON list; NULL: every model
    requests_per_minute bigint,                   -- NULL: no limit, here and below
    tokens_per_minute   bigint,
    concurrent_requests bigint,
    budget_microusd     bigint,
    budget_period       text COLLATE "C" NOT NULL
                        CHECK (budget_period IN ('day', 'week', 'month', 'total')),
    weight              bigint NOT NULL,
    previous_sha256     bytea,                    -- the secret before the last rotation
    previous_until      bigint,
    version             bigint NOT NULL           -- each change adds one
);
CREATE INDEX keys_created ON keys (created_at, id);
CREATE INDEX keys_revoked ON keys (created_at, id) WHERE status = 'revoked';
CREATE INDEX keys_name ON keys (name);
CREATE INDEX keys_previous ON keys (previous_sha256) WHERE previous_sha256 IS NOT NULL;

-- Apart from the keys, so that writing usage never waits for a change of a key, nor it for usage.
CREATE TABLE key_uses (
    key_id       text COLLATE "C" PRIMARY KEY,
    last_used_at bigint NOT NULL
) WITH (fillfactor = 70);

-- The owner key's hash, cookie secrets and the like.
CREATE TABLE meta (
    name  text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL
);

-- What other nodes must hear of, numbered in the order of the commits without a gap: a writer locks
-- the only row of `change_count` until it commits. `token` tells apart two histories with the same
-- numbers, as they exist after a fail-over that has lost the last commits.
CREATE TABLE change_count (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    last     bigint NOT NULL,
    token    uuid NOT NULL
);
INSERT INTO change_count (last, token) VALUES (0, gen_random_uuid());
CREATE TABLE changes (
    number bigint PRIMARY KEY,
    token  uuid NOT NULL,
    kind   text COLLATE "C" NOT NULL,             -- key, session, owner, all
    id     bytea NOT NULL,                        -- of the key, or the session's digest
    at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX changes_at ON changes (at);

-- Only hashes: of the session's id, and of the key it was opened with.
CREATE TABLE sessions (
    sha256            bytea PRIMARY KEY CHECK (length(sha256) = 32),
    principal         text COLLATE "C" NOT NULL,  -- "owner" or a key's id
    credential_sha256 bytea NOT NULL CHECK (length(credential_sha256) = 32),
    created_at        bigint NOT NULL,
    seen_at           bigint NOT NULL
);

-- numeric: whole numbers (money) stay whole, and others keep every digit.
CREATE TABLE counters (
    scope      text COLLATE "C" NOT NULL,
    kind       text COLLATE "C" NOT NULL,
    value      numeric NOT NULL,
    period     text COLLATE "C" NOT NULL,
    updated_at double precision NOT NULL,
    PRIMARY KEY (scope, kind)
) WITH (fillfactor = 70);

-- The usage that was recorded, so that a repeated batch changes nothing.
CREATE TABLE batches (
    id text COLLATE "C" PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX batches_at ON batches (at);

-- One row per request, pruned after the retention time.
CREATE TABLE usage (
    seq                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id         text COLLATE "C" NOT NULL,
    at                 double precision NOT NULL,
    key_id             text COLLATE "C" NOT NULL,
    model              text COLLATE "C" NOT NULL,
    deployment         text COLLATE "C",
    status             text COLLATE "C" NOT NULL,
    http_status        bigint NOT NULL,
    prompt_tokens      bigint,
    completion_tokens  bigint,
    cached_tokens      bigint,
    cache_write_tokens bigint,
    reasoning_tokens   bigint,
    estimated          boolean NOT NULL,
    cost_microusd      bigint,
    ttft_ms            bigint,
    duration_ms        bigint NOT NULL,
    queued_ms          bigint NOT NULL,
    stream             boolean NOT NULL,
    attempts           text COLLATE "C"           -- a JSON list; NULL: nothing but one that answered
);
-- The request log is read by time within each filter, newest first. Failures are few among many,
-- so they have an index of their own.
CREATE INDEX usage_at ON usage (at, seq);
CREATE INDEX usage_key_at ON usage (key_id, at, seq);
CREATE INDEX usage_model_at ON usage (model, at, seq);
CREATE INDEX usage_status_at ON usage (status, at, seq) WHERE status <> 'finished';
CREATE INDEX usage_request ON usage (request_id);

-- Sums of the rows, kept for ever; written in the same statement as the rows.
CREATE TABLE usage_daily (
    day                     text COLLATE "C" NOT NULL,  -- YYYY-MM-DD, UTC
    key_id                  text COLLATE "C" NOT NULL,
    model                   text COLLATE "C" NOT NULL,
    requests                bigint NOT NULL,
    failed                  bigint NOT NULL,
    prompt_tokens           bigint NOT NULL,
    completion_tokens       bigint NOT NULL,
    cached_tokens           bigint NOT NULL,
    reasoning_tokens        bigint NOT NULL,
    estimated_requests      bigint NOT NULL,
    unpriced_requests       bigint NOT NULL,
    cost_microusd           bigint NOT NULL,
    ttft_ms_sum             bigint NOT NULL,
    ttft_count              bigint NOT NULL,
    duration_ms_sum         bigint NOT NULL,
    estimated_tokens        bigint NOT NULL,
    estimated_cost_microusd bigint NOT NULL,
    PRIMARY KEY (day, key_id, model)
) WITH (fillfactor = 70);
CREATE INDEX usage_daily_key ON usage_daily (key_id, day);

-- The sums of all keys together: the usual view of a long span reads a few hundred rows.
CREATE TABLE usage_daily_models (
    day                     text COLLATE "C" NOT NULL,
    model                   text COLLATE "C" NOT NULL,
    requests                bigint NOT NULL,
    failed                  bigint NOT NULL,
    prompt_tokens           bigint NOT NULL,
    completion_tokens       bigint NOT NULL,
    cached_tokens           bigint NOT NULL,
    reasoning_tokens        bigint NOT NULL,
    estimated_requests      bigint NOT NULL,
    unpriced_requests       bigint NOT NULL,
    cost_microusd           bigint NOT NULL,
    ttft_ms_sum             bigint NOT NULL,
    ttft_count              bigint NOT NULL,
    duration_ms_sum         bigint NOT NULL,
    estimated_tokens        bigint NOT NULL,
    estimated_cost_microusd bigint NOT NULL,
    PRIMARY KEY (day, model)
) WITH (fillfactor = 70);

-- Rights that one node has for a while, by the server's clock: writing the export.
CREATE TABLE leases (
    name       text COLLATE "C" PRIMARY KEY,
    holder     text COLLATE "C" NOT NULL,
    expires_at timestamptz NOT NULL
);
