-- Takes or keeps a lease.
-- Guarantee: one holder at a time; a lease that has run out belongs to whoever asks first.
-- KEYS: 1 the lease
-- ARGV: 1 holder, 2 lease in ms; 0 gives it up
-- Returns 1 when the caller holds it now, else 0
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if tonumber(ARGV[2]) == 0 then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
