-- Put routes of one relay back unless newer ones stand. Arguments: relay id; then for each: project id, its
-- generation, route JSON before and after its generation.
-- Returns set, then for each: set and the new generation, or held and the route that stands; or lost alone.
local epoch = lease(ARGV[4])
if not epoch then
  return {'lost'}
end
local replies = {'set'}
for index = 5, #ARGV, 4 do
  local project_id, generation = ARGV[index], tonumber(ARGV[index + 1])
  local entry, route, epoch_before = standing(project_id)
  if route and route.generation > generation then
    table.insert(replies, 'held')
    table.insert(replies, entry)
  else
    table.insert(replies, 'set')
    table.insert(replies, hold(project_id, epoch, ARGV[index + 2], ARGV[index + 3], epoch_before))
  end
end
return replies
