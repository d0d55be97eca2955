-- Give an entry back until later. Arguments: project id, owner, fence, position, seconds since the epoch, 1 if
-- its delivery failed.
-- Returns lost or ok.
local project_id, fence, position = ARGV[5], ARGV[7], ARGV[8]
if not owns(project_id, ARGV[6], fence) then
  return {'lost'}
end
local stream, id = STREAM .. project_id, position .. '-0'
if not entry_at(project_id, position) or #redis.call('XPENDING', stream, GROUP, id, id, 1, fence) == 0 then
  return {'ok'}
end
move(project_id, 'deferred', {id, 'JUSTID'})
redis.call('ZADD', DEFERRED .. project_id, ARGV[9], position)
if ARGV[10] == '1' then
  redis.call('HINCRBY', FAILURES .. project_id, position, 1)
end
return {'ok'}
