-- Takes a turn for a leader.
-- Guarantee: at most one leader holds a turn whose lease is alive; each claim has a higher epoch than
-- all before it; a sealed turn is never claimed.
-- KEYS: 1 the turn's hash, 2 the turn's token stream
-- ARGV: 1 leaderId, 2 groupId, 3 tenantId, 4 lease in ms, 5 time to live of the keys in ms
-- Returns { "held", ms until the lease ends }, or
--   { "claimed" | "sealed", epoch, cancel, leaderId, groupId, startedAt, firstTokenAt (0: none yet),
--     entries of the stream }; times are ms of Redis's clock
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local turn = redis.call('HMGET', KEYS[1],
  'sealed', 'leaseUntilMs', 'leaderId', 'epoch', 'cancel', 'groupId', 'startedAt', 'firstTokenAt')
local lease = tonumber(turn[2] or '0')

if turn[1] then
  return { 'sealed', tonumber(turn[4]), turn[5] or '', turn[3], turn[6], tonumber(turn[7]),
    tonumber(turn[8] or '0'), redis.call('XRANGE', KEYS[2], '-', '+') }
end
if lease > now and turn[3] ~= ARGV[1] then
  return { 'held', lease - now }
end

local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'leaderId', ARGV[1], 'groupId', ARGV[2], 'tenantId', ARGV[3],
  'leaseUntilMs', now + ARGV[4])
redis.call('HSETNX', KEYS[1], 'startedAt', now)
redis.call('HSETNX', KEYS[1], 'lastSeq', 0)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return { 'claimed', epoch, turn[5] or '', ARGV[1], ARGV[2], tonumber(turn[7]) or now,
  tonumber(turn[8] or '0'), redis.call('XRANGE', KEYS[2], '-', '+') }
