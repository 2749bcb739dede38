-- For many keys and many requests: indexes, sums without keys, and how much of a sum is estimated.

ALTER TABLE usage_daily ADD COLUMN estimated_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage_daily ADD COLUMN estimated_cost_microusd INTEGER NOT NULL DEFAULT 0;

-- Older days count what is still on record; requests that were deleted before stay out of it.
INSERT INTO usage_daily (day, key_id, model, requests, failed, prompt_tokens, completion_tokens,
    cached_tokens, reasoning_tokens, estimated_requests, unpriced_requests, cost_microusd,
    ttft_ms_sum, ttft_count, duration_ms_sum, estimated_tokens, estimated_cost_microusd)
SELECT date(at, 'unixepoch'), key_id, model, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    CAST(total(ifnull(prompt_tokens, 0) + ifnull(completion_tokens, 0)) AS INTEGER),
    CAST(total(cost_microusd) AS INTEGER)
FROM usage WHERE estimated <> 0 GROUP BY 1, 2, 3
ON CONFLICT (day, key_id, model) DO UPDATE SET
    estimated_tokens = excluded.estimated_tokens,
    estimated_cost_microusd = excluded.estimated_cost_microusd;

-- The sums of all keys together: the usual view of a long span reads a few hundred rows.
CREATE TABLE usage_daily_models (
    day                     TEXT NOT NULL,
    model                   TEXT NOT NULL,
    requests                INTEGER NOT NULL,
    failed                  INTEGER NOT NULL,
    prompt_tokens           INTEGER NOT NULL,
    completion_tokens       INTEGER NOT NULL,
    cached_tokens           INTEGER NOT NULL,
    reasoning_tokens        INTEGER NOT NULL,
    estimated_requests      INTEGER NOT NULL,
    unpriced_requests       INTEGER NOT NULL,
    cost_microusd           INTEGER NOT NULL,
    ttft_ms_sum             INTEGER NOT NULL,
    ttft_count              INTEGER NOT NULL,
    duration_ms_sum         INTEGER NOT NULL,
    estimated_tokens        INTEGER NOT NULL,
    estimated_cost_microusd INTEGER NOT NULL,
    PRIMARY KEY (day, model)
) WITHOUT ROWID;

-- total() and not sum(): a sum that does not fit into 64 bits must not stop the start.
INSERT INTO usage_daily_models
SELECT day, model,
    CAST(total(requests) AS INTEGER), CAST(total(failed) AS INTEGER),
    CAST(total(prompt_tokens) AS INTEGER), CAST(total(completion_tokens) AS INTEGER),
    CAST(total(cached_tokens) AS INTEGER), CAST(total(reasoning_tokens) AS INTEGER),
    CAST(total(estimated_requests) AS INTEGER), CAST(total(unpriced_requests) AS INTEGER),
    CAST(total(cost_microusd) AS INTEGER), CAST(total(ttft_ms_sum) AS INTEGER),
    CAST(total(ttft_count) AS INTEGER), CAST(total(duration_ms_sum) AS INTEGER),
    CAST(total(estimated_tokens) AS INTEGER), CAST(total(estimated_cost_microusd) AS INTEGER)
FROM usage_daily GROUP BY day, model;

CREATE INDEX usage_daily_key ON usage_daily (key_id, day);

-- The request log is read by time within each filter, newest first. Failures are few among many,
-- so they have indexes of their own.
DROP INDEX usage_key;
DROP INDEX usage_model;
CREATE INDEX usage_key_at ON usage (key_id, at);
CREATE INDEX usage_model_at ON usage (model, at);
CREATE INDEX usage_key_model_at ON usage (key_id, model, at);
CREATE INDEX usage_status_at ON usage (status, at) WHERE status <> 'finished';
CREATE INDEX usage_key_status_at ON usage (key_id, status, at) WHERE status <> 'finished';
CREATE INDEX usage_model_status_at ON usage (model, status, at) WHERE status <> 'finished';

-- Lists and searches of keys read this index alone, in their order; the rest is for look-ups by
-- name and by a secret in its grace.
CREATE INDEX keys_created ON keys (created_at, id, name, redacted, status);
CREATE INDEX keys_revoked ON keys (created_at, id) WHERE status = 'revoked';
CREATE INDEX keys_name ON keys (name);
CREATE INDEX keys_previous ON keys (previous_sha256) WHERE previous_sha256 IS NOT NULL;
