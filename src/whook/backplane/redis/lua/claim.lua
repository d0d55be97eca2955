-- Make a tunnel the holder. Arguments: project id, relay id, instance, takeover as 1 or 0, route JSON before
-- and after its generation.
-- Returns set and the generation; held and the route that stands; or lost.
local project_id, relay_id, instance, takeover = ARGV[4], ARGV[5], ARGV[6], ARGV[7] == '1'
local epoch = lease(relay_id)
if not epoch then
  return {'lost'}
end
local entry, route, epoch_before = standing(project_id)
if route and route.instance ~= instance and not takeover then
  return {'held', entry}
end
return {'set', hold(project_id, epoch, ARGV[8], ARGV[9], epoch_before)}
