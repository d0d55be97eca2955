-- Read the number of the last BacklogSet or BacklogGone. Where Redis has forgotten it, it is one that is
-- greater than all before.
return {redis.call('GET', VERSION) or clock_number(0)}
