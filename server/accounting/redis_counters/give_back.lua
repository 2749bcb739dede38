-- Return everything that a lease holds; once, however often it is sent.
--
-- ARGV: clock, member, '1' if the answer to the take was lost, so that the take may come later.
-- KEYS: the scope, and the second scope of a guest.
-- Returns 1, or 0 if there was nothing to return.
local now = clock(ARGV[1])
local lease = lease_of(ARGV[2])

local function give_back(scope, member)
  local reserved, counted = parsed(member)
  if redis.call('ZREM', scope.running, member) == 1 then
    scope.held = math.max(0, scope.held - reserved)
    if counted then
      add(scope.t, -counted)
    end
  elseif redis.call('ZREM', scope.late, 'x' .. member) == 0 then
    if scope.changed and scope.epoch then
      save(scope)
    end
    return 0
  end
  add(scope.r, -1)
  add(scope.d, -1)
  if scope.epoch then
    save(scope)
  end
  return 1
end

local scope = load(1, now)
local done = give_back(scope, ARGV[2])
if #KEYS > 3 then
  give_back(load(4, now), '0::' .. lease)
end
if done == 0 and ARGV[3] == '1' then
  note_late(scope, 'd' .. lease)
end
return done
