-- Finds turns whose lease has run out.
-- Guarantee: a turn whose lease was noted is found once the lease has run out, until it is taken out.
-- KEYS: 1 the revision's leases
-- ARGV: 1 how many at most
-- Returns turnIds, the longest without a leader first
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
