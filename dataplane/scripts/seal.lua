-- Ends a turn's stream and tells those who watch it.
-- Guarantee: a stream is sealed once, by the leader with the highest epoch while its lease stands, right
-- after its last token; nothing is written to it afterwards.
-- KEYS: 1 the turn's hash, 2 the turn's token stream, 3 the turn's job
-- ARGV: 1 epoch, 2 sequence number of the last token, 3 the end as JSON, 4 the turn's channel,
--   5 message for it, 6 time to live of the keys from now in ms
-- Returns "ok" | "sealed" (it was before) | "stale" | "behind" (Redis has lost the claim or tokens:
--   restore them)
local turn = redis.call('HMGET', KEYS[1], 'epoch', 'lastSeq', 'sealed', 'leaseUntilMs')
local epoch = tonumber(turn[1] or '-1')
if epoch > tonumber(ARGV[1]) then return 'stale' end
if epoch < tonumber(ARGV[1]) then return 'behind' end
if turn[3] then return 'sealed' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(turn[4]) <= now then return 'stale' end
if tonumber(turn[2]) < tonumber(ARGV[2]) then return 'behind' end
if tonumber(turn[2]) > tonumber(ARGV[2]) then return 'stale' end

redis.call('XADD', KEYS[2], (ARGV[2] + 1) .. '-0', 'end', ARGV[3], 'epoch', ARGV[1])
redis.call('HSET', KEYS[1], 'sealed', 1, 'leaseUntilMs', 0)
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[6])
redis.call('DEL', KEYS[3])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 'ok'
