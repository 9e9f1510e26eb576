-- Extends the lease of a turn, or gives it up with a lease of 0 ms, and looks whether the turn shall end.
-- Guarantee: a leader whose epoch is not the turn's any more, or whose lease has run out, changes nothing,
-- and no one does after the turn was sealed; a turn is marked as
-- abandoned only after all of the renewals of one leader's claim in the window have found no watcher.
-- KEYS: 1 the turn's hash, 2 the turn's watchers, 3 the mark of those who read it over HTTP
-- ARGV: 1 epoch, 2 lease in ms, 3 how long the turn goes on without a watcher in ms; 0 for ever
-- Returns { "ok" | "stale" | "behind" (Redis has lost the claim: restore it), cancel, end of the lease in ms
--   (0: there is none) }, where cancel is why the turn shall end, or ""
local turn = redis.call('HMGET', KEYS[1], 'epoch', 'cancel', 'unwatchedAt', 'sealed',
  'leaseUntilMs')
local epoch = tonumber(turn[1] or '-1')
if epoch > tonumber(ARGV[1]) then return { 'stale', '', 0 } end
if epoch < tonumber(ARGV[1]) then return { 'behind', '', 0 } end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if turn[4] then return { 'ok', turn[2] or '', 0 } end
if tonumber(turn[5]) <= now then return { 'stale', '', 0 } end
local lease = now + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'leaseUntilMs', lease)

local cancel = turn[2] or ''
local window = tonumber(ARGV[3])
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then
  if turn[3] then redis.call('HDEL', KEYS[1], 'unwatchedAt') end
elseif not turn[3] then
  redis.call('HSET', KEYS[1], 'unwatchedAt', now)
elseif cancel == '' and window > 0 and now - tonumber(turn[3]) >= window then
  cancel = 'abandoned'
  redis.call('HSET', KEYS[1], 'cancel', cancel)
end
return { 'ok', cancel, lease }
