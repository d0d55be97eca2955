-- Begin an ownership. Arguments: project id, owner.
-- Returns lost if the owner has no lease, held if another owner has the project, or set and the fence.
local project_id, owner = ARGV[5], ARGV[6]
local epoch = lease(owner)
if not epoch then
  return {'lost'}
end
local before, holder, stands = standing(project_id)
if stands and holder ~= owner then
  return {'held'}
end
may_need_memory()
local fence = next_number()
redis.call('HSET', OWNERSHIPS, project_id, fence .. ':' .. epoch .. ':' .. owner)
if before then
  give_back(project_id, before)
end
return {'set', fence}
