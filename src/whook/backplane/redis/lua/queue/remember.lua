-- Note a delivery id. Arguments: key, milliseconds, 1 if it has been taken.
-- Returns what was known: new, running or done.
local key = DELIVERY .. ARGV[5]
local before = redis.call('GET', key)
if ARGV[7] == '1' then
  may_need_memory()
  redis.call('SET', key, '1', 'PX', ARGV[6])
elseif not before then
  redis.call('SET', key, '0', 'PX', ARGV[6])
end
return {not before and 'new' or before == '1' and 'done' or 'running'}
