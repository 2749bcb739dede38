-- Functions that every script starts with. One Redis script runs as one atomic step.
--
-- A scope has three keys with the same hash tag, so that a cluster keeps them in one slot:
--   counts   an array in MessagePack (`save` lists it): the levels of the buckets, their limits,
--            reserved and spent money. One read and one write are faster than a hash.
--   running  sorted set: one member "cost:tokens:lease" per running request, by its expiry
--   late     sorted set: "x" + member of a lease that expired, "d" + lease of one that has ended
--            in data that did not know it; both by the time of the entry
-- All guests share one tag, because a guest's take counts for two scopes in one step.
--
-- All numbers are whole. Times are microseconds. A bucket's level is counted in units of
-- (one request or token) / period: it drains by exactly `limit` per microsecond, so no rounding adds
-- up. Lua's numbers are doubles, which are exact up to 2^53: a minute's limit of 150 million.

local MINUTE = 60000000
local DAY = 86400000000
-- Two millionths of a request or token: larger than the rounding of the gateway's own arithmetic.
local SLACK = 500000
-- A lease lasts so long unless it is renewed.
local LEASE = 30000000
local LATE_KEPT = 2 * DAY
-- Of `running`, in milliseconds; set anew with every lease that is renewed.
local RUNNING_KEPT = 3600000
local PERIODS = {'day', 'week', 'month', 'total'}

local function text(number)
  return string.format('%.0f', number)
end

-- The server's clock, or that of a test.
local function clock(given)
  if given ~= '' then
    return tonumber(given)
  end
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- The numbers of the current periods in UTC: the day, the ISO week (weeks begin on Monday, and
-- 1970-01-01 was a Thursday), the month (days to civil, Howard Hinnant, chrono-compatible
-- low-level date algorithms).
local function period_ids(now)
  local day = math.floor(now / DAY)
  local z = day + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor(
    (doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365
  )
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return {day = day, week = math.floor((day + 3) / 7), month = year * 12 + month - 1}
end

local function bucket(level, limit, period)
  return limit and {level = level, limit = limit, period = period} or nil
end

local function add(one, amount)
  if one then
    one.level = math.max(0, one.level + amount * one.period)
  end
end

local function drain(one, elapsed)
  if one and elapsed > 0 then
    one.level = one.level - elapsed * one.limit
    if one.level <= one.period / SLACK then
      one.level = 0
    end
  end
end

-- Parse a member of `running`: its cost and its tokens, nil if the scope had no token limit.
local function parsed(member)
  local cost, tokens = string.match(member, '^(%d+):(%d*):')
  return tonumber(cost), tonumber(tokens)
end

local function lease_of(member)
  return string.match(member, '^%d+:%d*:(.*)$')
end

local function note_late(scope, entry)
  redis.call('ZREMRANGEBYSCORE', scope.late, '-inf', text(scope.now - LATE_KEPT))
  local added = redis.call('ZADD', scope.late, 'NX', text(scope.now), entry)
  redis.call('PEXPIRE', scope.late, text(LATE_KEPT / 1000))
  return added
end

-- A lease that nobody renewed: its node is gone, and its reserve comes back. The set is searched
-- only when its first lease may have expired.
local function expire(scope)
  if scope.now < scope.check_at then
    return
  end
  local gone = redis.call('ZRANGEBYSCORE', scope.running, '-inf', text(scope.now))
  for _, member in ipairs(gone) do
    local cost, tokens = parsed(member)
    scope.held = math.max(0, scope.held - cost)
    if tokens then
      add(scope.t, -tokens)
    end
    redis.call('ZREM', scope.running, member)
    note_late(scope, 'x' .. member)
  end
  local first = redis.call('ZRANGE', scope.running, 0, 0, 'WITHSCORES')
  scope.check_at = tonumber(first[2]) or scope.now + LEASE
  scope.changed = true
end

-- Hold a lease for its whole time. It expires after every other, so `check_at` stays right.
local function hold(scope, member)
  redis.call('ZADD', scope.running, text(scope.now + LEASE), member)
end

-- After the clock was set back nothing drains, and nothing waits for the old time to return.
local function set_back(scope)
  local most = scope.now + LEASE
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', scope.running, text(most), '+inf')) do
    redis.call('ZADD', scope.running, text(most), member)
  end
  scope.check_at = 0
  scope.changed = true
end

-- Read a scope as it is now. KEYS from `first` are its counts, running and late.
local function load(first, now)
  local packed = redis.call('GET', KEYS[first])
  local v = packed and cmsgpack.unpack(packed) or {}
  local scope = {
    counts = KEYS[first], running = KEYS[first + 1], late = KEYS[first + 2], now = now,
    epoch = v[1] or false, held = v[9] or 0, seeded = v[10], check_at = v[18] or 0,
    r = bucket(v[3], v[4], MINUTE), d = bucket(v[5], v[6], DAY), t = bucket(v[7], v[8], MINUTE),
    spent = {total = v[17] or 0}, ids = period_ids(now), changed = false,
  }
  local elapsed = now - (v[2] or now)
  drain(scope.r, elapsed)
  drain(scope.d, elapsed)
  drain(scope.t, elapsed)
  if elapsed < 0 then
    set_back(scope)
  end
  for i = 1, 3 do
    local name = PERIODS[i]
    local spent, id = v[9 + 2 * i] or 0, v[10 + 2 * i] or 0
    if id == scope.ids[name] + 1 then
      -- The clock was set back over the end of a period: the later one continues, so that its
      -- money is not spent twice.
      scope.ids[name] = id
    elseif id ~= scope.ids[name] then
      if id > scope.ids[name] then
        scope.seeded = nil -- the clock was far ahead once: the sums come from the database again
      end
      spent = 0
    end
    scope.spent[name] = spent
  end
  expire(scope)
  return scope
end

-- Apply limits. What exceeds a lower limit is dropped; a debt keeps the time that it takes to
-- drain (Bucket.resize).
local function adopt(scope, name, limit, period)
  local one = scope[name]
  if limit == '' then
    if one then
      scope[name] = nil
      scope.changed = true
    end
    return
  end
  limit = tonumber(limit)
  if not one then
    scope[name] = {level = 0, limit = limit, period = period}
  elseif one.limit ~= limit then
    local most = limit * period
    if one.level > most then
      one.level = math.min(one.level, math.max(most, math.floor(one.level * limit / one.limit)))
    end
    one.limit = limit
    scope.changed = true
  end
end

local function adopt_all(scope, r, d, t)
  adopt(scope, 'r', r, MINUTE)
  adopt(scope, 'd', d, DAY)
  adopt(scope, 't', t, MINUTE)
end

-- Count a request that was admitted while Redis was away, under the limits that it had then.
local function catch_up(scope, r, d, t)
  for name, limit in pairs({r = r, d = d, t = t}) do
    if limit ~= '' and not scope[name] then
      adopt(scope, name, limit, name == 'd' and DAY or MINUTE)
    end
  end
  add(scope.r, 1)
  add(scope.d, 1)
end

-- Add a cost to every period that is still that of `ids`.
local function spend(scope, cost, ids)
  for _, name in ipairs(PERIODS) do
    if ids[name] == scope.ids[name] then -- both nil: all time
      scope.spent[name] = scope.spent[name] + cost
    end
  end
end

-- Write a scope. Sums stay for longer than a month, and come from the database after that; the
-- rest stays until every bucket is drained and every lease has expired.
local function save(scope)
  local r, d, t = scope.r or {}, scope.d or {}, scope.t or {}
  local spent, ids = scope.spent, scope.ids
  local keep = 5 * MINUTE
  for _, one in ipairs({r, d, t}) do
    if one.limit then
      keep = math.max(keep, one.level / one.limit + 5 * MINUTE)
    end
  end
  if scope.seeded or spent.total > 0 then
    keep = math.max(keep, 40 * DAY)
  end
  local packed = cmsgpack.pack({
    scope.epoch, scope.now, r.level or false, r.limit or false, d.level or false, d.limit or false,
    t.level or false, t.limit or false, scope.held, scope.seeded or false,
    spent.day, ids.day, spent.week, ids.week, spent.month, ids.month, spent.total, scope.check_at,
  })
  redis.call('SET', scope.counts, packed, 'PX', text(keep / 1000))
end

local function level(one)
  return one and text(one.level) or ''
end

-- What a gateway builds a standing from. The limits are those it has sent.
local function standing(status, scope, running, period)
  return {
    status, scope.epoch or '', text(scope.now), level(scope.r), level(scope.d), level(scope.t),
    running, text(scope.held),
    period ~= '' and text(scope.spent[period]) or '',
  }
end

-- True if the gateway must first send what it and the database know (seed.lua): Redis has lost what
-- the gateway saw there, or the sums of a budget were never read.
local function unseeded(scope, known, budget)
  return (known ~= '' and known ~= (scope.epoch or '')) or (budget ~= '' and not scope.seeded)
end
