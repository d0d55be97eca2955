-- Give out the next entries that are due. Arguments: project id, owner, fence, how many at most, bytes of
-- bodies at most (but for the first), 1 if one that is deferred holds back those behind it.
-- Returns lost; or batch and when the next deferred one is due (or nothing), then for each entry its position,
-- event id, origin, number of the delivery, failures, and payload.
local project_id, owner, fence = ARGV[5], ARGV[6], ARGV[7]
local limit, max_bytes, in_order = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10] == '1'
if not owns(project_id, owner, fence) then
  return {'lost'}
end
local stream, deferred = STREAM .. project_id, DEFERRED .. project_id
local reply, found, bytes = {'batch', ''}, 0, 0
if redis.call('EXISTS', stream) == 0 then
  return reply
end
may_need_memory()

while true do
  local due = redis.call('ZRANGEBYSCORE', deferred, '-inf', string.format('%.3f', now / 1000), 'LIMIT', 0, MANY)
  if #due == 0 then
    break
  end
  redis.call('ZREM', deferred, unpack(due))
  for index, position in ipairs(due) do
    due[index] = position .. '-0'
  end
  due[#due + 1] = 'JUSTID'
  move(project_id, 'waiting', due)
end

local barrier
if in_order then
  local first = redis.call('XPENDING', stream, GROUP, '-', '+', 1, 'deferred')[1]
  barrier = first and first[1]
  reply[2] = barrier and redis.call('ZSCORE', deferred, position_of(barrier)) or ''
else
  reply[2] = redis.call('ZRANGE', deferred, 0, 0, 'WITHSCORES')[2] or ''
end

local function fits(body_size)
  bytes = bytes + body_size
  return found == 0 or bytes <= max_bytes
end

local function give(id, fields, deliveries)
  local position = position_of(id)
  found = found + 1
  local attempt = text(tonumber(fields[6]) + deliveries)
  local failures = redis.call('HGET', FAILURES .. project_id, position) or '0'
  local payload = redis.call('HGET', PAYLOADS .. project_id, position)
  for _, value in ipairs({position, fields[2], fields[4], attempt, failures, payload}) do
    reply[#reply + 1] = value
  end
end

if limit > 0 then
  local last = barrier and '(' .. barrier or '+'
  for _, pending in ipairs(redis.call('XPENDING', stream, GROUP, '-', last, limit, 'waiting')) do
    local id, deliveries = pending[1], pending[4] + 1
    local fields = entry_at(project_id, position_of(id))
    if not fits(tonumber(fields[12])) then
      return reply
    end
    move(project_id, fence, {id, 'RETRYCOUNT', deliveries, 'JUSTID'})
    give(id, fields, deliveries)
  end
end
while found < limit and not barrier do
  local new = redis.call('XREADGROUP', 'GROUP', GROUP, fence, 'COUNT', 1, 'STREAMS', stream, '>')
  if not new then
    break
  end
  local id, fields = new[1][2][1][1], new[1][2][1][2]
  if not fits(tonumber(fields[12])) then
    move(project_id, 'waiting', {id, 'RETRYCOUNT', 0, 'JUSTID'})
    break
  end
  give(id, fields, 1)
end
return reply
