-- Notes how far a connection has got with a turn.
-- Guarantee: only of a connection that watches the turn: what a relay says that does not know yet that the
-- connection is gone, or another's, brings no entry back that was taken out, and would stay for good.
-- KEYS: 1 the turn's watchers
-- ARGV: 1 connectionId, 2 what it has got
-- Returns 1 when it is noted, else 0
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
