-- Ends a turn's stream and tells the relay.
-- Guarantee: a stream is sealed once, by the leader with the highest epoch, right after its last
-- token; nothing is written to it afterwards.
-- KEYS: 1 the turn's hash, 2 the turn's token stream
-- ARGV: 1 epoch, 2 sequence number of the last token, 3 the end as JSON, 4 channel of the relay shard,
--   5 message for it, 6 time to live of the keys from now in ms
-- Returns "ok" | "sealed" (it was before) | "gap" (its last token is another) | "stale"
local turn = redis.call('HMGET', KEYS[1], 'epoch', 'lastSeq', 'sealed')
if turn[1] ~= ARGV[1] then return 'stale' end
if turn[3] then return 'sealed' end
if tonumber(turn[2]) ~= tonumber(ARGV[2]) then return 'gap' end

redis.call('XADD', KEYS[2], (ARGV[2] + 1) .. '-0', 'end', ARGV[3])
redis.call('HSET', KEYS[1], 'sealed', 1, 'leaseUntilMs', 0)
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('PEXPIRE', KEYS[2], ARGV[6])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 'ok'
