-- Take one request on one or two scopes, all or nothing.
--
-- ARGV: clock, lease, tokens, cost; then per scope: the epoch that the node knows or '', the limits of
-- requests, requests per day, tokens and concurrency ('': none), the budget ('': none), its period.
-- Returns the standing of each scope. The status of the first: 'taken', 'refused' (by the first
-- scope), 'together' (by the second), 'seed' (nothing was taken; the node must seed), 'ended' (a
-- give-back of this lease came before it).
local OK, REFUSED, TOGETHER, SEED, ENDED = 'taken', 'refused', 'together', 'seed', 'ended'
local now = clock(ARGV[1])
local lease, tokens, cost = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local function fits(one, amount)
  return not one or one.level + (amount - one.limit) * one.period <= one.period / SLACK
end

local function asked(i)
  local from = 5 + (i - 1) * 7
  return {
    known = ARGV[from], concurrent = ARGV[from + 4], budget = ARGV[from + 5],
    period = ARGV[from + 6], r = ARGV[from + 1], d = ARGV[from + 2], t = ARGV[from + 3],
  }
end

local function admits(scope, want, amount, price)
  if want.concurrent ~= '' and scope.count >= tonumber(want.concurrent) then
    return false
  end
  if want.budget ~= '' and price > 0 then -- free models work after the budget is spent
    if scope.spent[want.period] + scope.held + price > tonumber(want.budget) then
      return false
    end
  end
  return fits(scope.r, 1) and fits(scope.d, 1) and fits(scope.t, amount)
end

local function count(scope, amount, price, member)
  scope.epoch = scope.epoch or lease
  add(scope.r, 1)
  add(scope.d, 1)
  add(scope.t, amount)
  scope.held = scope.held + price
  hold(scope, member)
  if scope.count == 0 then
    redis.call('PEXPIRE', scope.running, RUNNING_KEPT)
  end
  scope.count = scope.count + 1
  save(scope)
end

local scopes, wants = {}, {}
for i = 1, #KEYS / 3 do
  scopes[i] = load(i * 3 - 2, now)
  scopes[i].count = redis.call('ZCARD', scopes[i].running)
  wants[i] = asked(i)
end

local function answer(status)
  local all = {}
  for i, scope in ipairs(scopes) do
    if status ~= OK and scope.changed and scope.epoch then
      save(scope) -- limits have changed or leases have expired; nothing was taken
    end
    all[i] = standing(status, scope, scope.count, wants[i].period)
  end
  return all
end

if redis.call('ZSCORE', scopes[1].late, 'd' .. lease) then
  return answer(ENDED)
end
for i, scope in ipairs(scopes) do
  if unseeded(scope, wants[i].known, wants[i].budget) then
    return answer(SEED)
  end
end
adopt_all(scopes[1], wants[1].r, wants[1].d, wants[1].t)
if not admits(scopes[1], wants[1], tokens, cost) then
  return answer(REFUSED)
end
if scopes[2] then
  adopt_all(scopes[2], wants[2].r, wants[2].d, wants[2].t)
  if not admits(scopes[2], wants[2], 0, 0) then
    return answer(TOGETHER)
  end
end
local counted = scopes[1].t and ARGV[3] or ''
count(scopes[1], tokens, cost, ARGV[4] .. ':' .. counted .. ':' .. lease)
if scopes[2] then
  count(scopes[2], 0, 0, '0::' .. lease)
end
return answer(OK)
