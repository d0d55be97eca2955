-- Take or renew a lease. Arguments: owner, milliseconds.
-- Returns whether it was renewed: 1, or 0 for a new lease.
local owner = ARGV[5]
may_need_memory()
for _, other in ipairs(redis.call('HKEYS', LEASES)) do
  if not lease(other) then
    redis.call('HDEL', LEASES, other)
  end
end
local before = lease(owner)
local times = text(now) .. ':' .. text(now + tonumber(ARGV[6]))
redis.call('HSET', LEASES, owner, (before or next_number()) .. ':' .. times)
return {before and '1' or '0'}
