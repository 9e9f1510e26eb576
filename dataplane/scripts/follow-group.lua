-- A follower beats, and hears who leads its group.
-- Guarantee: a beat of another epoch than the group's is not noted.
-- KEYS: 1 the lead, 2 the followers
-- ARGV: 1 rank, 2 epoch, 0 for none yet; 3 the beat; 4 how long the followers are kept, ms
-- Returns the group's epoch and state; 0 and "none" while nobody leads it
local lead = redis.call('HMGET', KEYS[1], 'epoch', 'state')
if not lead[1] then return { '0', 'none' } end
if lead[1] == ARGV[2] then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return { lead[1], lead[2] }
