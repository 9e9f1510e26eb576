-- Writes a running turn anew, after Redis has come back without it or with less of it.
-- Guarantee: only the leader with the highest epoch does so, and what it writes is the whole of what it
-- has written and found; a sealed turn is left as it is.
-- KEYS: 1 the turn's hash, 2 the turn's token stream, 3 the turn's job
-- ARGV: 1 epoch, 2 leaderId, 3 groupId, 4 tenantId, 5 startedAt in ms, 6 lease in ms, 7 time to live of
--   the keys in ms, 8 the job, then for each token from the first: 9 text, 10 token id, 11 epoch, …
-- Returns "ok" | "stale" | "sealed"
local turn = redis.call('HMGET', KEYS[1], 'epoch', 'leaderId', 'sealed')
local epoch = tonumber(turn[1] or '0')
local mine = tonumber(ARGV[1])
if epoch > mine or (epoch == mine and turn[2] ~= ARGV[2]) then return 'stale' end
if turn[3] then return 'sealed' end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local tokens = (#ARGV - 8) / 3
redis.call('HSET', KEYS[1], 'epoch', mine, 'leaderId', ARGV[2], 'groupId', ARGV[3],
  'tenantId', ARGV[4], 'leaseUntilMs', now + ARGV[6], 'lastSeq', tokens)
redis.call('HSETNX', KEYS[1], 'startedAt', ARGV[5])
if tokens > 0 then redis.call('HSETNX', KEYS[1], 'firstTokenAt', now) end
redis.call('DEL', KEYS[2])
for seq = 1, tokens do
  local at = 9 + (seq - 1) * 3
  redis.call('XADD', KEYS[2], seq .. '-0', 'text', ARGV[at], 'token', ARGV[at + 1], 'epoch', ARGV[at + 2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('PEXPIRE', KEYS[2], ARGV[7])
redis.call('SET', KEYS[3], ARGV[8], 'PX', ARGV[7])
return 'ok'
