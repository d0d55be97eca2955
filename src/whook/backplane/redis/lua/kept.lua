-- Read what is kept, the earliest end first. Argument: key.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', ARGV[1], '(' .. now, '+inf')
