-- Remove routes of leases that are over. Argument: how many at most.
-- Returns how many leases still have some.
local epoch = redis.call('LINDEX', ENDED, 0)
if epoch then
  local project_ids = redis.call('SPOP', HELD .. epoch, ARGV[4])
  for _, project_id in ipairs(project_ids) do
    local entry = redis.call('HGET', ROUTES, project_id)
    if entry and epoch_of(entry) == epoch then
      redis.call('HDEL', ROUTES, project_id)
    end
  end
  if redis.call('EXISTS', HELD .. epoch) == 0 then
    redis.call('LPOP', ENDED)
  end
end
return {tostring(redis.call('LLEN', ENDED))}
