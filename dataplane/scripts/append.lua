-- Adds tokens to a turn's stream and tells those who watch it.
-- Guarantee: only the leader with the turn's highest epoch adds tokens, and only while its lease stands:
-- of a lease that has run out nobody can tell whether Redis has lost a later claim. Each sequence number
-- is written once; the stream has no gap.
-- KEYS: 1 the turn's hash, 2 the turn's token stream
-- ARGV: 1 epoch, 2 sequence number of the first token, 3 the turn's channel, 4 message for it,
--   5 time to live of the keys in ms, then for each token: 6 text, 7 token id, …
-- Returns "ok" | "duplicate" (all of it is there already) | "stale" | "sealed" | "behind" (Redis has lost
--   the claim or tokens: restore them)
local turn = redis.call('HMGET', KEYS[1], 'epoch', 'lastSeq', 'sealed', 'leaseUntilMs')
local epoch = tonumber(turn[1] or '-1')
if epoch > tonumber(ARGV[1]) then return 'stale' end
if epoch < tonumber(ARGV[1]) then return 'behind' end
if turn[3] then return 'sealed' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(turn[4]) <= now then return 'stale' end

local from = tonumber(ARGV[2])
local last = tonumber(turn[2])
local to = from + (#ARGV - 5) / 2 - 1
if from > last + 1 then return 'behind' end
if to <= last then return 'duplicate' end

for seq = last + 1, to do
  local at = 6 + (seq - from) * 2
  redis.call('XADD', KEYS[2], seq .. '-0', 'text', ARGV[at], 'token', ARGV[at + 1], 'epoch', ARGV[1])
end
redis.call('HSET', KEYS[1], 'lastSeq', to)
if last == 0 then redis.call('HSET', KEYS[1], 'firstTokenAt', now) end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 'ok'
