-- Remove a route by its generation. Arguments: project id, generation.
-- Returns whether it was there: 1 or 0.
local project_id, generation = ARGV[4], ARGV[5]
local _, route, epoch = standing(project_id)
if not route or route.generation ~= tonumber(generation) then
  return {'0'}
end
redis.call('HDEL', ROUTES, project_id)
redis.call('SREM', HELD .. epoch, project_id)
publish(
  'routes',
  '{"event":"route-gone","project_id":' .. cjson.encode(project_id) .. ',"generation":' .. generation .. '}'
)
return {'1'}
