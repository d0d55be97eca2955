-- End a lease, if there is one. Argument: relay id.
if redis.call('HEXISTS', RELAYS, ARGV[4]) == 1 then
  end_lease(ARGV[4])
end
return {}
