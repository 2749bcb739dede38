-- Return what remains of a scope's limits; takes nothing.
--
-- ARGV: clock, the epoch that the node knows or '', the limits of requests, requests per day and
-- tokens ('': none), the budget ('': none) and its period. Status 'seed': the node must seed first.
local scope = load(1, clock(ARGV[1]))
if scope.changed and scope.epoch then
  save(scope)
end
local running = redis.call('ZCARD', scope.running)
if unseeded(scope, ARGV[2], ARGV[6]) then
  return standing('seed', scope, running, ARGV[7])
end
adopt_all(scope, ARGV[3], ARGV[4], ARGV[5]) -- asking with other limits changes nothing
return standing('ok', scope, running, ARGV[7])
