-- Bring what a node and the database know into data that have lost it, or never had it.
--
-- ARGV: clock, a unique id, then for requests, requests per day and tokens: the level and the limit
-- ('': unknown), then '1' and the sums of day, week, month and total, or '' and nothing.
-- The larger value wins, so that several nodes can seed in any order.
-- Returns the epoch.
local now = clock(ARGV[1])
local scope = load(1, now)
local at = 3
for _, name in ipairs({'r', 'd', 't'}) do
  local known, limit = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  at = at + 2
  if known and limit then
    local period = name == 'd' and DAY or MINUTE
    scope[name] = scope[name] or {level = 0, limit = limit, period = period}
    scope[name].level = math.max(scope[name].level, known)
  end
end
if ARGV[at] == '1' then
  for i, name in ipairs(PERIODS) do
    scope.spent[name] = math.max(scope.spent[name], tonumber(ARGV[at + i]))
  end
  scope.seeded = now
end
scope.epoch = scope.epoch or ('d' .. ARGV[2])
save(scope)
return scope.epoch
