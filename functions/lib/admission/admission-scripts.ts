/**
 * The decisions of admission, each one script: Redis runs it alone, by its own clock.
 *
 * All of them have in common:
 * KEYS: 1 turns, 2 in flight, 3 held interactive, 4 held batch, 5 expiry, 6 credits, 7 pace
 *   (events/redis-keys.ts, admissionKeys)
 * ARGV: 1 the settings as JSON: room, tenantInFlight, weights by tenant, inFlightMs and heldMs (an entry
 *   that nobody has confirmed for so long leaves), ttlMs (of the keys), mostReleased (by one call),
 *   assumedTurnMs and leastTurnMs (of the time in flight)
 */
const common = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local settings = cjson.decode(ARGV[1])
local turns, inFlight, expiry, credits, pace = KEYS[1], KEYS[2], KEYS[5], KEYS[6], KEYS[7]
local held = { interactive = KEYS[3], batch = KEYS[4] }
-- Releases that may go past a batch turn: it gets at least one in eight.
local mostPastBatch = 7

local function weightOf(tenant) return settings.weights[tenant] or 1 end

-- Places of a tenant: those between "<tenant> " and "<tenant>!", the character after the space.
local function countOf(key, tenant)
  return redis.call('ZLEXCOUNT', key, '[' .. tenant .. ' ', '(' .. tenant .. '!')
end

local function tenantsIn(key)
  local tenants, from = {}, '-'
  while true do
    local place = redis.call('ZRANGEBYLEX', key, from, '+', 'LIMIT', 0, 1)[1]
    if not place then return tenants end
    local tenant = place:match('^(%S+) ')
    tenants[#tenants + 1] = tenant
    from = '[' .. tenant .. '!'
  end
end

local function entryOf(turnId)
  local text = redis.call('HGET', turns, turnId)
  if not text then return nil end
  local priority, releasedAt, place = text:match('^(%a+) (%d+) (.+)$')
  return { priority = priority, releasedAt = tonumber(releasedAt), place = place }
end

local function confirm(turnId, releasedAt)
  redis.call('ZADD', expiry, now + (releasedAt > 0 and settings.inFlightMs or settings.heldMs), turnId)
end

local function enter(turnId, priority, place, releasedAt)
  redis.call('HSET', turns, turnId, priority .. ' ' .. string.format('%.0f', releasedAt) .. ' ' .. place)
  confirm(turnId, releasedAt)
  if releasedAt > 0 then
    redis.call('ZREM', held[priority], place)
    redis.call('ZADD', inFlight, 0, place)
  else
    redis.call('ZADD', held[priority], 0, place)
  end
end

local function remove(turnId)
  local entry = entryOf(turnId)
  redis.call('ZREM', expiry, turnId)
  if not entry then return nil end
  redis.call('HDEL', turns, turnId)
  redis.call('ZREM', inFlight, entry.place)
  redis.call('ZREM', held[entry.priority], entry.place)
  return entry
end

local function removeForgotten()
  for _, turnId in ipairs(redis.call('ZRANGEBYSCORE', expiry, '-inf', now, 'LIMIT', 0, 100)) do
    remove(turnId)
  end
end

-- The keys live and end together, so that what one of them says holds for the others.
local function keep()
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, settings.ttlMs) end
end

-- Releases held turns while there is room, and returns their turnIds. Interactive turns go before batch
-- turns. Among tenants it is smooth weighted round robin (as in nginx): each that may have one more turn
-- in flight is credited its weight, the highest credit goes, and pays what all of them were credited.
-- So in each round of as many releases as the weights add up to, each tenant gets its weight.
local function release()
  local released, free = {}, settings.room - redis.call('ZCARD', inFlight)
  local anyHeld = redis.call('ZCARD', held.interactive) + redis.call('ZCARD', held.batch) > 0
  if free <= 0 or not anyHeld then return released end

  local running, lines = {}, {}
  for priority, key in pairs(held) do
    lines[priority] = {}
    for _, tenant in ipairs(tenantsIn(key)) do
      running[tenant] = running[tenant] or countOf(inFlight, tenant)
      local credit = tonumber(redis.call('HGET', credits, priority .. ' ' .. tenant) or '0')
      table.insert(lines[priority], { tenant = tenant, weight = weightOf(tenant), credit = credit,
        waiting = countOf(key, tenant) })
    end
  end
  local function mayGo(line) return line.waiting > 0 and running[line.tenant] < settings.tenantInFlight end
  local function anyMayGo(priority)
    for _, line in ipairs(lines[priority]) do if mayGo(line) then return true end end
    return false
  end
  local function pick(priority)
    local best, total = nil, 0
    for _, line in ipairs(lines[priority]) do
      if mayGo(line) then
        line.credit = line.credit + line.weight
        total = total + line.weight
        if not best or line.credit > best.credit then best = line end
      end
    end
    best.credit = best.credit - total
    return best
  end

  local sinceBatch = tonumber(redis.call('HGET', pace, 'sinceBatch') or '0')
  while free > 0 and #released < settings.mostReleased do
    local interactive, batch = anyMayGo('interactive'), anyMayGo('batch')
    if not interactive and not batch then break end
    local priority = 'interactive'
    if batch and (not interactive or sinceBatch >= mostPastBatch) then priority = 'batch' end
    if priority == 'batch' then sinceBatch = 0 elseif batch then sinceBatch = sinceBatch + 1 end
    local line = pick(priority)
    local place = redis.call('ZRANGEBYLEX', held[priority], '[' .. line.tenant .. ' ', '+', 'LIMIT', 0, 1)[1]
    local turnId = place:match(' (%S+)$')
    enter(turnId, priority, place, now)
    line.waiting = line.waiting - 1
    running[line.tenant] = running[line.tenant] + 1
    free = free - 1
    released[#released + 1] = turnId
  end

  redis.call('HSET', pace, 'sinceBatch', sinceBatch)
  -- A tenant that has nothing held any more starts anew.
  redis.call('DEL', credits)
  for priority, ofPriority in pairs(lines) do
    for _, line in ipairs(ofPriority) do
      if line.waiting > 0 then
        redis.call('HSET', credits, priority .. ' ' .. line.tenant, line.credit)
      end
    end
  end
  return released
end

-- Where a tenant's turn stands that has so many of the tenant's own before it, and how long it will wait:
-- { position, ms }. By the round robin another tenant gets ahead as often as its weight says, and of two
-- that are even the one whose name comes first; one that is at its limit does not. Turns end at the pace of
-- Little's law: so many in flight, each for so long.
local function outlook(tenant, priority, before)
  local ahead, rounds = before, (before + 1) / weightOf(tenant)
  for _, other in ipairs(tenantsIn(held[priority])) do
    if other ~= tenant and countOf(inFlight, other) < settings.tenantInFlight then
      local share = rounds * weightOf(other)
      local before = other < tenant and math.floor(share) or math.ceil(share) - 1
      ahead = ahead + math.min(countOf(held[priority], other), before)
    end
  end
  local ownAhead = before
  if priority == 'batch' then
    local interactive = redis.call('ZCARD', held.interactive)
    ahead = ahead + math.min(interactive, mostPastBatch * (ahead + 1))
    ownAhead = ownAhead + countOf(held.interactive, tenant)
  end
  local turnMs = tonumber(redis.call('HGET', pace, 'turnMs') or settings.assumedTurnMs)
  local all, own = redis.call('ZCARD', inFlight), countOf(inFlight, tenant)
  local wait = 0
  if all >= settings.room then wait = (ahead + 1) * turnMs / math.max(1, all) end
  if own >= settings.tenantInFlight then wait = math.max(wait, (ownAhead + 1) * turnMs / math.max(1, own)) end
  return { ahead + 1, math.ceil(wait) }
end
`;

/** A script's text, which Redis is sent once and then called by its hash. */
const script = (head: string, body: string): string => `${head.trim()}\n${common}${body}`;

export const admissionScripts = {
  /** What would become of a turn that came now. */
  look: script(
    `
-- Foretells what admission would do with a turn, so that it can be refused before it is recorded.
-- Guarantee: changes nothing.
-- KEYS: as above
-- ARGV: 1 settings, 2 tenant, 3 priority
-- Returns { position (0: it would be sent at once), ms of waiting, turns of the tenant that are held }
`,
    `
local tenant, priority = ARGV[2], ARGV[3]
local interactive, batch = countOf(held.interactive, tenant), countOf(held.batch, tenant)
local before = priority == 'batch' and batch or interactive
local isFree = redis.call('ZCARD', inFlight) < settings.room
  and countOf(inFlight, tenant) < settings.tenantInFlight
if isFree and before == 0 then return { 0, 0, interactive + batch } end
local foreseen = outlook(tenant, priority, before)
return { foreseen[1], foreseen[2], interactive + batch }
`,
  ),

  /** Takes a turn in. */
  admit: script(
    `
-- Takes a turn in, and releases the turns that may be sent now: often, but not always, this one.
-- Guarantee: no turn is released by this while its tenant or its revision has as many in flight as they
-- may; of one tenant and priority the one asked first is released first; a turn that is in already keeps
-- its place, and is not released again. One that is known to run counts as in flight at once, since it is.
-- KEYS: as above
-- ARGV: 1 settings, 2 turnId, 3 priority, 4 place, 5 "1" when the turn is known to run or to be sent
-- Returns { position (0: it is in flight), ms of waiting, released turnIds }
`,
    `
local turnId, priority, place = ARGV[2], ARGV[3], ARGV[4]
removeForgotten()
local entry = entryOf(turnId)
if ARGV[5] == '1' then
  if not entry or entry.releasedAt == 0 then enter(turnId, priority, place, now) end
elseif not entry then
  enter(turnId, priority, place, 0)
end
local released = release()
entry = entryOf(turnId)
confirm(turnId, entry.releasedAt)
keep()
if entry.releasedAt > 0 then return { 0, 0, released } end
local tenant = entry.place:match('^(%S+) ')
local before = redis.call('ZLEXCOUNT', held[entry.priority], '[' .. tenant .. ' ', '(' .. entry.place)
local foreseen = outlook(tenant, entry.priority, before)
return { foreseen[1], foreseen[2], released }
`,
  ),

  /** Lets a turn go that has ended, and others in its place. */
  leave: script(
    `
-- Lets a turn go that has ended, and releases the turns that may be sent now.
-- Guarantee: as of admit; a turn that left already, or was never in, changes no count.
-- KEYS: as above
-- ARGV: 1 settings, 2 turnId, or "" to release only
-- Returns released turnIds
`,
    `
removeForgotten()
local entry = ARGV[2] ~= '' and remove(ARGV[2])
if entry and entry.releasedAt > 0 then
  local spent = now - entry.releasedAt
  local turnMs = tonumber(redis.call('HGET', pace, 'turnMs') or spent)
  -- An exponentially weighted mean: the last ten turns or so count.
  redis.call('HSET', pace, 'turnMs', math.max(settings.leastTurnMs, turnMs + 0.1 * (spent - turnMs)))
end
local released = release()
keep()
return released
`,
  ),

  /** Takes a turn back that is held. */
  withdraw: script(
    `
-- Takes a turn out that is held: it will not be sent.
-- Guarantee: a turn is either withdrawn or released, never both.
-- KEYS: as above
-- ARGV: 1 settings, 2 turnId
-- Returns 1 when the turn was held, else 0
`,
    `
local entry = entryOf(ARGV[2])
if not entry or entry.releasedAt > 0 then return 0 end
remove(ARGV[2])
return 1
`,
  ),

  /** Notes that a turn is open, and tells what it is. */
  confirm: script(
    `
-- Notes that a turn is still open.
-- Guarantee: changes neither place nor order.
-- KEYS: as above
-- ARGV: 1 settings, 2 turnId
-- Returns "in flight" | "held" | "unknown"
`,
    `
local entry = entryOf(ARGV[2])
if not entry then return 'unknown' end
confirm(ARGV[2], entry.releasedAt)
keep()
return entry.releasedAt > 0 and 'in flight' or 'held'
`,
  ),
} as const;
