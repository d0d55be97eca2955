-- What all scripts of the queue share; it is the beginning of each, and after it comes what that one returns
-- as the body of a function. ARGV[1] is the prefix of every key and channel, ARGV[2] the highest number that
-- the caller has seen, ARGV[3] the time at which the caller gives up (milliseconds of Redis's clock, 0 if it
-- does not know that clock), ARGV[4] is 1 if the bus is on this Redis; what is special to a script begins at
-- ARGV[5].
--
-- Replies are lists of strings: the time, the event to publish if the bus is elsewhere, and what the script
-- returns. A script that came too late does nothing and returns the time alone.
--
--   number           string  the last one given out: of a position, a fence, an epoch or a version
--   version          string  the last number of a BacklogSet or BacklogGone
--   totals           hash    count, bytes
--   counts, sizes    hashes  project id -> what of it waits; fields are there while it is more than nothing
--   leases           hash    owner -> epoch:renewed:ends, in milliseconds
--   ownerships       hash    project id -> fence:epoch:owner; counts only while the owner's lease has that epoch
--   delivery:KEY     string  0 running, 1 done; expires
--
-- and for each project of which something waits:
--
--   stream:ID        stream  POSITION-0 -> id, origin, attempts, since, size, body size
--   payloads:ID      hash    position -> the sealed event
--   deferred:ID      zset    position -> when it is due, in seconds
--   failures:ID      hash    position -> deliveries that failed
--
-- The stream has one consumer group, whose consumers say where an entry that was read is: FENCE is the
-- ownership that has it, "deferred" has those that are not due yet, "waiting" those that came back. The group
-- counts deliveries. Numbers stay below 2^53, where Lua still counts one by one.
--
-- Redis does not undo a script that fails. When its memory is full it refuses the first change of a script
-- if that may need more, and none after it. So "append" begins with a change that can be refused; all that
-- help the queue to become shorter begin with one that cannot.

local PREFIX = ARGV[1] .. 'queue:'
local NUMBER, VERSION, TOTALS = PREFIX .. 'number', PREFIX .. 'version', PREFIX .. 'totals'
local COUNTS, SIZES = PREFIX .. 'counts', PREFIX .. 'sizes'
local LEASES, OWNERSHIPS = PREFIX .. 'leases', PREFIX .. 'ownerships'
local DELIVERY = PREFIX .. 'delivery:'
local STREAM, PAYLOADS = PREFIX .. 'stream:', PREFIX .. 'payloads:'
local DEFERRED, FAILURES = PREFIX .. 'deferred:', PREFIX .. 'failures:'
local GROUP, MANY = 'delivery', 500

local now, news

local function may_need_memory()
  redis.call('UNLINK', PREFIX .. 'none')
end

local function text(number)
  return string.format('%.0f', number)
end

-- Numbers follow the clock, so that they rise even when Redis has forgotten the last one; where its clock was
-- set back, what the caller has seen still holds.
local function clock_number(last)
  return text(math.max(last + 1, now * 1024, tonumber(ARGV[2]) + 1))
end

local function next_number()
  local number = clock_number(tonumber(redis.call('GET', NUMBER) or 0))
  redis.call('SET', NUMBER, number)
  return number
end

local function publish(event, project_id, more)
  local version = next_number()
  redis.call('SET', VERSION, version)
  local id = cjson.encode(project_id)
  news = '{"event":"' .. event .. '","project_id":' .. id .. more .. ',"version":' .. version .. '}'
  if ARGV[4] == '1' then
    redis.call('PUBLISH', ARGV[1] .. 'bus:backlog', news)
    news = ''
  end
end

-- The epoch of a lease, or nil where there is none now. One that was renewed in the future is none: the clock
-- was set back.
local function lease(owner)
  local epoch, renewed, ends = string.match(redis.call('HGET', LEASES, owner) or '', '^(%d+):(%d+):(%d+)$')
  if epoch and tonumber(renewed) <= now and now < tonumber(ends) then
    return epoch
  end
  return nil
end

-- Fence and owner of the ownership that was given out last, and whether it stands.
local function standing(project_id)
  local entry = redis.call('HGET', OWNERSHIPS, project_id)
  if not entry then
    return nil
  end
  local fence, epoch, owner = string.match(entry, '^(%d+):(%d+):(.*)$')
  return fence, owner, lease(owner) == epoch
end

local function owns(project_id, owner, fence)
  local last, holder, stands = standing(project_id)
  return stands and last == fence and holder == owner
end

-- The fields of an entry, or nil: id, origin, attempts, since, size, body size.
local function entry_at(project_id, position)
  local found = redis.call('XRANGE', STREAM .. project_id, position .. '-0', position .. '-0')[1]
  return found and found[2]
end

local function position_of(id)
  return string.match(id, '^%d+')
end

-- Gives entries that were read to a consumer, without counting a delivery.
local function move(project_id, consumer, ids)
  if #ids > 0 then
    redis.call('XCLAIM', STREAM .. project_id, GROUP, consumer, 0, unpack(ids))
  end
end

-- Puts whatever an ownership has not settled back.
local function give_back(project_id, fence)
  local stream = STREAM .. project_id
  if redis.call('EXISTS', stream) == 0 then
    return
  end
  while true do
    local ids = {}
    for _, pending in ipairs(redis.call('XPENDING', stream, GROUP, '-', '+', MANY, fence)) do
      ids[#ids + 1] = pending[1]
    end
    if #ids == 0 then
      break
    end
    ids[#ids + 1] = 'JUSTID'
    move(project_id, 'waiting', ids)
  end
  redis.call('XGROUP', 'DELCONSUMER', stream, GROUP, fence)
end

-- Count, bytes, and since when the first waits, as text.
local function backlog(project_id)
  local count = redis.call('HGET', COUNTS, project_id)
  if not count then
    return {'0', '0', '0'}
  end
  local first = redis.call('XRANGE', STREAM .. project_id, '-', '+', 'COUNT', 1)[1]
  return {count, redis.call('HGET', SIZES, project_id), first[2][8]}
end
