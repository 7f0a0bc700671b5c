-- Policy `fair`: the person who used the least GPU time lately goes next. Needs includes/policy_round_robin.lua.
--
-- What a person used fades by half every ten minutes. Since it fades for all alike, their order does not change while nobody
-- runs anything, and neither does what is stored: log2(milliseconds used) + time / half-life, from which the use at any
-- time follows. order:<level> has the people who wait at a level by that score, so that a claim need not sort them.

local HALF_LIFE_MS = 600000
-- What a job is taken to cost before one of its kind has ended.
local USUAL_MS = 10000

-- Add to what a person used; a negative amount takes back what a job was expected to cost.
local function charge(user, ms)
  local now = now_ms() / HALF_LIFE_MS
  local score = redis.call('ZSCORE', key('usage'), user)
  local used = score and 2 ^ (score - now) or 0
  local left = math.max(used + ms, 1)
  local written = string.format('%.17g', now + math.log(left) / math.log(2))
  redis.call('ZADD', key('usage'), written, user)
  for _, level in ipairs(used_levels()) do
    redis.call('ZADD', key('order', level), 'XX', written, user)
  end
end

-- Forget who used next to nothing lately, less than a millisecond by now, and whose last turn was a day ago.
local function forget_old_usage()
  local old = redis.call('ZRANGEBYSCORE', key('usage'), '-inf', now_ms() / HALF_LIFE_MS, 'LIMIT', 0, 100)
  for _, user in ipairs(old) do
    redis.call('ZREM', key('usage'), user)
    for _, level in ipairs(LEVELS) do
      local number = redis.call('ZSCORE', key('people', level), user)
      if number then
        place_by_usage(level, user, number)
      end
    end
  end
  redis.call('ZREMRANGEBYSCORE', key('turns'), '-inf', now_us() - 86400000000)
end

local function order_fair(level, first_lane)
  local read, piece, next_of_these = 0, nil, nil
  return function()
    while true do
      local user, lane
      if next_of_these then
        user, lane = next_of_these()
      end
      if user then
        return user, lane
      end
      piece = larger_piece(piece)
      local users = redis.call('ZRANGE', key('order', level), read, read + piece - 1)
      if #users == 0 then
        return nil
      end
      read = read + #users
      next_of_these = those_with_a_lane(users, first_lane, piece)
    end
  end
end
