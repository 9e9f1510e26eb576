-- Notes until when a leader holds turns, where other leaders look for those that nobody holds any more.
-- Guarantee: none; it is a note, and whose a turn is stands in the turn's own hash.
-- KEYS: 1 the revision's leases
-- ARGV: 1 lease in ms; -1 takes the turns out, 2 "new" leaves the notes that are there, "all" renews them
--   too, then the turnIds
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 3, #ARGV do
  if ARGV[1] == '-1' then
    redis.call('ZREM', KEYS[1], ARGV[i])
  elseif ARGV[2] == 'new' then
    redis.call('ZADD', KEYS[1], 'NX', now + ARGV[1], ARGV[i])
  else
    redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i])
  end
end
return redis.status_reply('OK')
