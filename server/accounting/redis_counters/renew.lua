-- Renew the leases of one node on one scope, and take those up that these data do not know.
--
-- ARGV: clock, the epoch that the node knows or ''; then per lease: the epoch in which it was taken
-- ('': while Redis was away), its member, and the limits of requests, requests per day and tokens
-- under which it was admitted while Redis was away.
-- Returns the epoch, or '' if the node must seed first.
local now = clock(ARGV[1])
local scope = load(1, now)
if unseeded(scope, ARGV[2], '') then
  return ''
end

local function take_up(member)
  local cost, tokens = parsed(member)
  scope.held = scope.held + cost
  if tokens then
    add(scope.t, tokens)
  end
end

for i = 3, #ARGV, 5 do
  local taken_in, member = ARGV[i], ARGV[i + 1]
  local lease = lease_of(member)
  if redis.call('ZSCORE', scope.running, member) then
    hold(scope, member)
  elseif redis.call('ZREM', scope.late, 'x' .. member) == 1 then
    take_up(member)
    hold(scope, member)
  elseif taken_in ~= (scope.epoch or '?') then
    if not redis.call('ZSCORE', scope.late, 'd' .. lease) then
      if taken_in == '' then
        catch_up(scope, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
        take_up(member)
      else
        scope.held = scope.held + parsed(member) -- seeded levels contain its tokens
      end
      hold(scope, member)
    end
  end
  scope.epoch = scope.epoch or ('r' .. lease)
end
redis.call('PEXPIRE', scope.running, RUNNING_KEPT)
save(scope)
return scope.epoch
