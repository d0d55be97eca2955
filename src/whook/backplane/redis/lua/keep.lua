-- Publish a message and keep it, in one step: whoever hears nothing of it finds it in `kept`.
-- Arguments: key, channel, message, milliseconds, how many are kept at most.
local key, channel, message, ttl, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', key, now + ttl, message)
redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
redis.call('ZREMRANGEBYRANK', key, 0, -most - 1)
if redis.call('PTTL', key) < ttl then
  redis.call('PEXPIRE', key, ttl)
end
redis.call('PUBLISH', channel, message)
return {}
