-- What all scripts of the directory share; it is the beginning of each, and after it comes what that one
-- returns as the body of a function. ARGV[1] is the prefix of every key and channel, ARGV[2] the highest
-- generation that the caller has seen, ARGV[3] the time at which the caller gives up (milliseconds of Redis's
-- clock, 0 if it does not know that clock); what is special to a script begins at ARGV[4].
--
-- Replies are lists of strings: the time, born, age in milliseconds, and what the script returns. A script
-- that came too late does nothing and returns the time alone: Redis would otherwise run, after a pause, what
-- has been given up.
--
--   clock       hash    run: which start of Redis this is; born, since: its first generation and when that was;
--                       tick: when a script ran last; paused: how long leases have not been counted down
--   generation  string  the last one given out
--   relays      hash    relay id -> [epoch,{relay}]
--   leases      zset    relay id -> when its lease ends, in milliseconds of the lease clock
--   routes      hash    project id -> [epoch,{route}]; counts only while relays has that relay with that epoch
--   held:EPOCH  set     project ids of the routes of one lease
--   ended       list    epochs of leases that are over, whose routes are still to be removed
--   bus:TOPIC   channel
--   kept:TOPIC  zset    messages of a topic -> when they are dropped, in milliseconds of Redis's clock (keep.lua)
--
-- The epoch of a lease is the generation at which it began. Numbers stay below 2^53, where Lua still counts
-- one by one. Redis does not undo a script that fails, so the first change that each one makes is one that
-- Redis refuses when its memory is full; after it nothing fails any more.

local PREFIX = ARGV[1]
local CLOCK, GENERATION = PREFIX .. 'clock', PREFIX .. 'generation'
local RELAYS, LEASES = PREFIX .. 'relays', PREFIX .. 'leases'
local ROUTES, HELD, ENDED = PREFIX .. 'routes', PREFIX .. 'held:', PREFIX .. 'ended'
local LONGEST_SILENCE = 4000

local now, lease_time, born, age

-- Generations follow the clock, so that they rise even when Redis has forgotten the last one; where its clock
-- was set back, what the caller has seen still holds.
local function next_generation()
  local last = tonumber(redis.call('GET', GENERATION) or 0)
  local text = string.format('%.0f', math.max(last + 1, now * 1024, tonumber(ARGV[2]) + 1))
  redis.call('SET', GENERATION, text)
  return text
end

local function publish(topic, message)
  redis.call('PUBLISH', PREFIX .. 'bus:' .. topic, message)
end

local function epoch_of(entry)
  return string.match(entry, '^%[(%d+),')
end

local function end_lease(relay_id)
  local generation = next_generation()
  local entry = redis.call('HGET', RELAYS, relay_id)
  redis.call('ZREM', LEASES, relay_id)
  if not entry then
    return -- somebody has removed the key
  end
  local epoch = epoch_of(entry)
  redis.call('HDEL', RELAYS, relay_id)
  if redis.call('EXISTS', HELD .. epoch) == 1 then
    redis.call('RPUSH', ENDED, epoch)
  end
  local id = cjson.encode(relay_id)
  local gone = '{"event":"relay-gone","relay_id":' .. id .. ',"generation":' .. generation .. '}'
  publish('routes', gone)
  publish('relays', gone)
end

-- After a restart nothing that Redis has read from its disk can be relied upon: it may lack the last changes,
-- or the last hour. Relays put back what still stands. Nothing is published: every connection has broken, so
-- every subscriber has a gap.
local function forget()
  for _, entry in ipairs(redis.call('HVALS', RELAYS)) do
    redis.call('UNLINK', HELD .. epoch_of(entry))
  end
  for _, epoch in ipairs(redis.call('LRANGE', ENDED, 0, -1)) do
    redis.call('UNLINK', HELD .. epoch)
  end
  redis.call('UNLINK', RELAYS, LEASES, ROUTES, ENDED)
end

-- Comes before everything: nobody ever sees a lease that is over.
local function enter()
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  local known = redis.call('HMGET', CLOCK, 'run', 'born', 'since', 'tick', 'paused')
  local paused = 0
  if known[1] == run then
    born, age = known[2], now - known[3]
    paused = tonumber(known[5])
    -- Somebody sweeps every second. When nobody has, Redis was out of reach, and no relay could renew its
    -- lease: that time does not count. Nor does a clock that was set.
    local silence = now - known[4]
    if silence > LONGEST_SILENCE or silence < 0 then
      paused = paused + silence
    end
    redis.call('HSET', CLOCK, 'tick', now, 'paused', paused)
  else
    born, age = next_generation(), 0
    forget()
    redis.call('HSET', CLOCK, 'run', run, 'born', born, 'since', now, 'tick', now, 'paused', 0)
  end
  lease_time = now - paused
  for _, relay_id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', lease_time)) do
    end_lease(relay_id)
  end
end

-- The epoch of the relay's lease, or nil.
local function lease(relay_id)
  local entry = redis.call('HGET', RELAYS, relay_id)
  return entry and epoch_of(entry)
end

-- The route of a project as it is stored, and decoded with its epoch; or nil.
local function standing(project_id)
  local entry = redis.call('HGET', ROUTES, project_id)
  if not entry then
    return nil
  end
  local route, epoch = cjson.decode(entry)[2], epoch_of(entry)
  if lease(route.relay_id) ~= epoch then
    return nil
  end
  return entry, route, epoch
end

-- Puts a route, given as its JSON before and after the generation, in the place of the one that stands.
local function hold(project_id, epoch, head, tail, epoch_before)
  local generation = next_generation()
  local route = head .. generation .. tail
  redis.call('HSET', ROUTES, project_id, '[' .. epoch .. ',' .. route .. ']')
  redis.call('SADD', HELD .. epoch, project_id)
  if epoch_before and epoch_before ~= epoch then
    redis.call('SREM', HELD .. epoch_before, project_id)
  end
  publish('routes', '{"event":"route-set","route":' .. route .. '}')
  return generation
end
