-- Policy `fair`: the person who used the least GPU time lately goes next. Needs includes/policy_round_robin.lua.
--
-- What a person used fades by half every ten minutes. Since it fades for all alike, their order does not change while nobody
-- runs anything, and neither does what is stored: log2(milliseconds used) + time / half-life, from which the use at any
-- time follows.

local HALF_LIFE_MS = 600000
-- What a job is taken to cost before one of its kind has ended.
local USUAL_MS = 10000

-- Add to what a person used; a negative amount takes back what a job was expected to cost.
local function charge(user, ms)
  local now = now_ms() / HALF_LIFE_MS
  local score = redis.call('ZSCORE', key('usage'), user)
  local used = score and 2 ^ (score - now) or 0
  local left = math.max(used + ms, 1)
  redis.call('ZADD', key('usage'), string.format('%.17g', now + math.log(left) / math.log(2)), user)
end

-- Forget who used next to nothing lately, less than a millisecond by now, and whose last turn was a day ago.
local function forget_old_usage()
  redis.call('ZREMRANGEBYSCORE', key('usage'), '-inf', now_ms() / HALF_LIFE_MS)
  redis.call('ZREMRANGEBYSCORE', key('turns'), '-inf', now_us() - 86400000000)
end

local function order_fair(people, first_lane)
  local entries = in_order(people, function(users)
    return redis.call('ZMSCORE', key('usage'), unpack(users))
  end)
  return those_with_a_lane(entries, first_lane)
end
