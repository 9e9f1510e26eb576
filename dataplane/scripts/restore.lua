-- Writes a running turn anew, after Redis has come back without it or with less of it.
-- Guarantee: only the leader with the highest epoch does so, while the lease stands that it was given: so
-- there was no later claim, not even one that Redis has lost. What it writes is the whole of what it has
-- written and found; a sealed turn is left as it is.
-- KEYS: 1 the turn's hash, 2 the turn's token stream, 3 the turn's job
-- ARGV: 1 epoch, 2 leaderId, 3 groupId, 4 tenantId, 5 startedAt in ms, 6 lease in ms, 7 time to live of
--   the keys in ms, 8 the job, 9 until when the lease stood that it was given, in ms, then for each token
--   from the first: 10 text, 11 token id, 12 epoch, …
-- Returns "ok" | "stale" | "sealed"
local turn = redis.call('HMGET', KEYS[1], 'epoch', 'leaderId', 'sealed')
local epoch = tonumber(turn[1] or '0')
local mine = tonumber(ARGV[1])
if epoch > mine or (epoch == mine and turn[2] ~= ARGV[2]) then return 'stale' end
if turn[3] then return 'sealed' end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(ARGV[9]) <= now then return 'stale' end
local tokens = (#ARGV - 9) / 3
redis.call('HSET', KEYS[1], 'epoch', mine, 'leaderId', ARGV[2], 'groupId', ARGV[3],
  'tenantId', ARGV[4], 'leaseUntilMs', now + ARGV[6], 'lastSeq', tokens)
redis.call('HSETNX', KEYS[1], 'startedAt', ARGV[5])
if tokens > 0 then redis.call('HSETNX', KEYS[1], 'firstTokenAt', now) end
redis.call('DEL', KEYS[2])
for seq = 1, tokens do
  local at = 10 + (seq - 1) * 3
  redis.call('XADD', KEYS[2], seq .. '-0', 'text', ARGV[at], 'token', ARGV[at + 1], 'epoch', ARGV[at + 2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('PEXPIRE', KEYS[2], ARGV[7])
redis.call('SET', KEYS[3], ARGV[8], 'PX', ARGV[7])
return 'ok'
