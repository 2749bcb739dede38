-- Replace what a lease holds by the true usage; once, however often it is sent.
--
-- ARGV: clock, member, epoch in which the lease was taken ('': while Redis was away, '*': unknown,
-- because its process was killed; a lease that is not there has ended then), tokens, cost,
-- microseconds since the request ended, '1' if money is added up, and the limits of requests,
-- requests per day and tokens under which it was admitted while Redis was away.
-- KEYS: the scope, and the second scope of a guest.
-- Returns 1, or 0 if it was settled before.
local now = clock(ARGV[1])
local member, taken_in = ARGV[2], ARGV[3]
local tokens, cost = tonumber(ARGV[4]), tonumber(ARGV[5])
local reserved, counted = parsed(member)
local scope = load(1, now)
local ended_at = now - tonumber(ARGV[6])

-- Data that did not see the take cannot see by the missing member that it was settled before.
local left = taken_in == '*'
local foreign = not left and taken_in ~= (scope.epoch or '?')
if foreign and note_late(scope, 'd' .. lease_of(member)) == 0 then
  return 0
end
if redis.call('ZREM', scope.running, member) == 1 then
  scope.held = math.max(0, scope.held - reserved)
  if counted then
    add(scope.t, tokens - counted)
  end
elseif redis.call('ZREM', scope.late, 'x' .. member) == 1 then
  if counted then
    add(scope.t, tokens) -- its reserve came back when it expired
  end
elseif foreign then
  if taken_in == '' then
    catch_up(scope, ARGV[8], ARGV[9], ARGV[10])
  end
  if counted then
    add(scope.t, tokens)
  end
  if taken_in ~= '' and scope.seeded and ended_at < scope.seeded - 1000000 then
    cost = 0 -- the sums that were read from the database since then contain it
  end
else
  return 0
end
if ARGV[7] == '1' and cost > 0 then
  spend(scope, cost, left and period_ids(ended_at) or scope.ids)
end
scope.epoch = scope.epoch or ('s' .. lease_of(member))
save(scope)

if #KEYS > 3 then
  local together = load(4, now)
  local other = '0::' .. lease_of(member)
  if redis.call('ZREM', together.running, other) == 0 then
    redis.call('ZREM', together.late, 'x' .. other)
  end
  if together.epoch then
    save(together)
  end
end
return 1
