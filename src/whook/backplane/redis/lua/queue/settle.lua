-- Remove entries for good. Arguments: project id, owner, fence, positions.
-- Returns lost; or left, and count, bytes, and since when the first waits.
local project_id = ARGV[5]
if not owns(project_id, ARGV[6], ARGV[7]) then
  return {'lost'}
end
local stream = STREAM .. project_id
local removed, bytes = 0, 0
for index = 8, #ARGV do
  local position = ARGV[index]
  local fields = entry_at(project_id, position)
  if fields then
    redis.call('XACK', stream, GROUP, position .. '-0')
    redis.call('XDEL', stream, position .. '-0')
    redis.call('HDEL', PAYLOADS .. project_id, position)
    redis.call('ZREM', DEFERRED .. project_id, position)
    redis.call('HDEL', FAILURES .. project_id, position)
    removed, bytes = removed + 1, bytes + tonumber(fields[10])
  end
end
if removed > 0 then
  redis.call('HINCRBY', TOTALS, 'count', -removed)
  redis.call('HINCRBY', TOTALS, 'bytes', text(-bytes))
  redis.call('HINCRBY', SIZES, project_id, text(-bytes))
  if redis.call('HINCRBY', COUNTS, project_id, -removed) == 0 then
    redis.call('HDEL', COUNTS, project_id)
    redis.call('HDEL', SIZES, project_id)
    redis.call('UNLINK', stream)
    publish('backlog-gone', project_id, '')
  end
end
local left = backlog(project_id)
return {'left', left[1], left[2], left[3]}
