-- A leader says that it leads the group, and hears what the followers have said.
-- Guarantee: a group's epoch never falls. A leader whose epoch is not the highest changes nothing.
-- KEYS: 1 the lead, 2 the followers
-- ARGV: 1 epoch; 2 state: opening (takes the next epoch, the given one at least), forming, ready or
--   closed; 3 how long both are kept, ms
-- Returns the group's epoch, then rank and beat of each follower in turn
local highest = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
local epoch = tonumber(ARGV[1])
local state = ARGV[2]
if state == 'opening' then
  epoch = math.max(epoch, highest + 1)
  state = 'forming'
  redis.call('DEL', KEYS[2])
end
if epoch < highest then return { string.format('%.0f', highest) } end
local text = string.format('%.0f', epoch)
redis.call('HSET', KEYS[1], 'epoch', text, 'state', state)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local reply = redis.call('HGETALL', KEYS[2])
table.insert(reply, 1, text)
return reply
