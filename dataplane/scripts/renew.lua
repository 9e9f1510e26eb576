-- Extends the lease of a turn, or gives it up with a lease of 0 ms.
-- Guarantee: a leader whose epoch is not the turn's any more changes nothing.
-- KEYS: 1 the turn's hash
-- ARGV: 1 epoch, 2 lease in ms
-- Returns { "ok" | "stale", cancel }, where cancel is why the turn shall end, or ""
local turn = redis.call('HMGET', KEYS[1], 'epoch', 'cancel')
if turn[1] ~= ARGV[1] then return { 'stale', '' } end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'leaseUntilMs', now + ARGV[2])
return { 'ok', turn[2] or '' }
