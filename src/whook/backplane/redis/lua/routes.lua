-- Read one batch of routes, also of those whose lease is over. Arguments: cursor, about how many.
-- Returns the next cursor, and the batch as one JSON array.
local reply = redis.call('HSCAN', ROUTES, ARGV[4], 'COUNT', ARGV[5])
local entries = {}
for index = 2, #reply[2], 2 do
  entries[#entries + 1] = reply[2][index]
end
return {reply[1], '[' .. table.concat(entries, ',') .. ']'}
