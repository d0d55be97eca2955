-- Put a route back unless a newer one stands. Arguments: project id, relay id, its generation, route JSON
-- before and after its generation.
-- Returns set and the new generation; held and the route that stands; or lost.
local project_id, relay_id, generation = ARGV[4], ARGV[5], tonumber(ARGV[6])
local epoch = lease(relay_id)
if not epoch then
  return {'lost'}
end
local entry, route, epoch_before = standing(project_id)
if route and route.generation > generation then
  return {'held', entry}
end
return {'set', hold(project_id, epoch, ARGV[7], ARGV[8], epoch_before)}
