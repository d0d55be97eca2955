-- Add an entry at the end. Arguments: project id, project as JSON, event id, origin, attempts, since in
-- seconds or nothing for now, size, body size, payload; then the limits: project's count, bytes and age in
-- seconds, count and bytes in all.
-- Returns ok; or full and the limit.
local project_id, size = ARGV[5], tonumber(ARGV[11])
local held = backlog(project_id)
local count, bytes, oldest = tonumber(held[1]), tonumber(held[2]), tonumber(held[3])
local totals = redis.call('HMGET', TOTALS, 'count', 'bytes')
if count + 1 > tonumber(ARGV[14]) then
  return {'full', 'project-count'}
elseif bytes + size > tonumber(ARGV[15]) then
  return {'full', 'project-bytes'}
elseif count > 0 and now / 1000 - oldest > tonumber(ARGV[16]) then
  return {'full', 'project-age'}
elseif (tonumber(totals[1]) or 0) + 1 > tonumber(ARGV[17]) then
  return {'full', 'total-count'}
elseif (tonumber(totals[2]) or 0) + size > tonumber(ARGV[18]) then
  return {'full', 'total-bytes'}
end
local position = next_number()
local since = ARGV[10] ~= '' and ARGV[10] or string.format('%.3f', now / 1000)
local stream = STREAM .. project_id
if count == 0 then
  redis.call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
end
redis.call(
  'XADD', stream, position .. '-0',
  'e', ARGV[7], 'o', ARGV[8], 'a', ARGV[9], 't', since, 's', ARGV[11], 'b', ARGV[12]
)
redis.call('HSET', PAYLOADS .. project_id, position, ARGV[13])
redis.call('HINCRBY', COUNTS, project_id, 1)
redis.call('HINCRBY', SIZES, project_id, ARGV[11])
redis.call('HINCRBY', TOTALS, 'count', 1)
redis.call('HINCRBY', TOTALS, 'bytes', ARGV[11])
if count == 0 then
  publish('backlog-set', project_id, ',"project":' .. ARGV[6])
end
return {'ok'}
