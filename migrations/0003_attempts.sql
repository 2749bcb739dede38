-- Which deployments were tried for a request, in order, and how each attempt ended.

ALTER TABLE usage ADD COLUMN attempts TEXT;  -- a JSON list; NULL: nothing but one that answered
