-- Take back a claim that is not settled. Argument: key.
local key = DELIVERY .. ARGV[5]
if redis.call('GET', key) == '0' then
  redis.call('DEL', key)
end
return {}
