-- Say that a node lives. ARGV: clock, the node's name, microseconds after which a silent node counts
-- as gone; '' as the last takes the node out. Returns the names of all nodes that live.
local now = clock(ARGV[1])
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[1], ARGV[2])
else
  redis.call('ZADD', KEYS[1], text(now), ARGV[2])
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now - tonumber(ARGV[3])))
  redis.call('PEXPIRE', KEYS[1], text(2 * ARGV[3] / 1000))
end
return redis.call('ZRANGE', KEYS[1], 0, -1)
