-- End a lease and with it all that hangs on it. Argument: owner.
redis.call('HDEL', LEASES, ARGV[5])
return {}
