-- Runs the function "body" that a script has become: the end of each.
local time = redis.call('TIME')
now = time[1] * 1000 + math.floor(time[2] / 1000)
local latest = tonumber(ARGV[3])
if latest > 0 and now > latest then
  return {text(now)}
end
news = ''
local reply = body()
table.insert(reply, 1, news)
table.insert(reply, 1, text(now))
return reply
