-- Takes a turn for a leader.
-- Guarantee: at most one leader holds a turn whose lease is alive; each claim has a higher epoch than
-- all before it, also than those of a Redis that has lost its data since, for an epoch is no lower than
-- the time in ms; a sealed turn is never claimed.
-- KEYS: 1 the turn's hash, 2 the turn's token stream, 3 the turn's job
-- ARGV: 1 leaderId, 2 groupId, 3 tenantId, 4 lease in ms, 5 time to live of the keys in ms, 6 the job
-- Returns { "held", ms until the lease ends }, or
--   { "claimed" | "sealed", epoch, cancel, leaderId, groupId, startedAt, firstTokenAt (0: none yet),
--     claims in a row without a new token, end of the lease, entries of the stream }; times are ms of Redis's clock
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local turn = redis.call('HMGET', KEYS[1], 'sealed', 'leaseUntilMs', 'leaderId', 'epoch', 'cancel',
  'groupId', 'startedAt', 'firstTokenAt', 'lastSeq', 'claimedSeq', 'barrenClaims')
local lease = tonumber(turn[2] or '0')

if turn[1] then
  return { 'sealed', tonumber(turn[4]), turn[5] or '', turn[3], turn[6], tonumber(turn[7]),
    tonumber(turn[8] or '0'), 0, 0, redis.call('XRANGE', KEYS[2], '-', '+') }
end
if lease > now and turn[3] ~= ARGV[1] then
  return { 'held', lease - now }
end

local epoch = math.max(tonumber(turn[4] or "0") + 1, now)
local lastSeq = turn[9] or '0'
local barren = turn[10] == lastSeq and tonumber(turn[11]) + 1 or 1
redis.call('HSET', KEYS[1], 'epoch', epoch, 'leaderId', ARGV[1], 'groupId', ARGV[2],
  'tenantId', ARGV[3], 'leaseUntilMs', now + ARGV[4], 'lastSeq', lastSeq, 'claimedSeq', lastSeq,
  'barrenClaims', barren)
redis.call('HSETNX', KEYS[1], 'startedAt', now)
redis.call('HDEL', KEYS[1], 'unwatchedAt')
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('SET', KEYS[3], ARGV[6], 'PX', ARGV[5])
return { 'claimed', epoch, turn[5] or '', ARGV[1], ARGV[2], tonumber(turn[7]) or now,
  tonumber(turn[8] or '0'), barren, now + tonumber(ARGV[4]),
  redis.call('XRANGE', KEYS[2], '-', '+') }
