-- Read the relays with their leases. Returns for each its entry and the milliseconds that its lease lasts.
local found = {}
local ends = redis.call('ZRANGE', LEASES, 0, -1, 'WITHSCORES')
for i = 1, #ends, 2 do
  local entry = redis.call('HGET', RELAYS, ends[i])
  if entry then
    found[#found + 1] = entry
    found[#found + 1] = string.format('%.0f', tonumber(ends[i + 1]) - lease_time)
  end
end
return found
