-- Read one batch of what waits. Arguments: cursor, about how many.
-- Returns the next cursor; then for each project its id, count, bytes, and since when the first waits.
local found = redis.call('HSCAN', COUNTS, ARGV[5], 'COUNT', ARGV[6])
local reply = {found[1]}
for index = 1, #found[2], 2 do
  local project_id = found[2][index]
  reply[#reply + 1] = project_id
  for _, value in ipairs(backlog(project_id)) do
    reply[#reply + 1] = value
  end
end
return reply
