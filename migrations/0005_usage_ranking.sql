-- Rankings of keys read this index alone, in the order of the keys, however many days and models.

DROP INDEX usage_daily_key;
CREATE INDEX usage_daily_key
    ON usage_daily (key_id, day, requests, prompt_tokens, completion_tokens, cost_microusd);
