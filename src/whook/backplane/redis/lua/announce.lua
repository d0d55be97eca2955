-- Take or renew a lease. Arguments: relay id, relay as JSON, milliseconds.
-- Returns whether it was renewed: 1, or 0 for a new lease.
local relay_id, relay, ttl = ARGV[4], ARGV[5], tonumber(ARGV[6])
local before = redis.call('HGET', RELAYS, relay_id)
local entry = '[' .. (before and epoch_of(before) or next_generation()) .. ',' .. relay .. ']'
redis.call('ZADD', LEASES, lease_time + ttl, relay_id)
if entry ~= before then
  redis.call('HSET', RELAYS, relay_id, entry)
  publish('relays', '{"event":"relay-set","relay":' .. relay .. '}')
end
return {before and '1' or '0'}
