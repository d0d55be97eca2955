-- End an ownership if it stands. Arguments: project id, owner, fence.
local project_id = ARGV[5]
if owns(project_id, ARGV[6], ARGV[7]) then
  redis.call('HDEL', OWNERSHIPS, project_id)
  give_back(project_id, ARGV[7])
end
return {}
