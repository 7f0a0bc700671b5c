-- What a person may use of the workshop, and has used. Needs includes/lanes.lua and includes/policy_fair.lua.
--
-- GPU time is in milliseconds, without what loading models took, as `fair` counts it. Where it stands:
--   limits:<user>      a hash: the person's own limits where they differ from the policy's, '' for none; see LIMITS
--   allowance:<user>   a hash: `total`, used in this workshop; `hour:<n>`, used in the n-th hour since 1970; `booked` for
--                      jobs that have not ended; `credits`, as they were at `reckoned`
--   job:<id> `booked`  what is booked for it: as much as it was expected to take when it was submitted
-- A job's booking ends with the job, whatever becomes of it. What it took is settled only when a worker tells its end, so
-- an attempt that was lost costs nothing.
-- Invariant: `booked` is the sum of what is booked for the person's jobs that have not ended.

-- The limits of one person, by the names that the policy has for those of all. `credits_hour` is GPU time that each hour
-- brings, `disk` is in bytes.
local LIMITS = {'per_person', 'per_minute', 'gpu_day', 'gpu_workshop', 'credits_hour', 'disk'}

local HOUR_MS = 3600000
-- A day is the hour that has begun and those before it.
local DAY_HOURS = 24
-- Credits gather for so many hours; what was granted stays beyond that.
local MOST_HOURS = 24
-- Of a person who does not come back nothing stays.
local KEEP_S = 86400 * 90

-- The limits that hold for a person, by name; nil where there is none.
local function limits_of(user)
  local usual = redis.call('HMGET', key('policy'), unpack(LIMITS))
  local own = redis.call('HMGET', key('limits', user), unpack(LIMITS))
  local limits = {}
  for i, name in ipairs(LIMITS) do
    -- tonumber('') is nil, and so is that of what is not there.
    limits[name] = tonumber(own[i] or usual[i] or '')
  end
  return limits
end

local function whole(number)
  return string.format('%.0f', number)
end

-- The credits that a person has now, by what each hour brings; who has none yet begins with those of one hour.
local function credits_of(user, income)
  local kept = redis.call('HMGET', key('allowance', user), 'credits', 'reckoned')
  local credits, most = tonumber(kept[1] or income), income * MOST_HOURS
  if kept[2] and credits < most then
    credits = math.min(most, credits + income * (now_ms() - kept[2]) / HOUR_MS)
  end
  return credits
end

-- Bring a person's credits up to now, and add to them.
local function add_credits(user, income, ms)
  redis.call('HSET', key('allowance', user), 'credits', whole(credits_of(user, income) + ms), 'reckoned', now_ms())
end

-- The GPU time that a person used in the last day: {{hour, ms}, ...} from the oldest hour on, and the sum.
local function last_day(user)
  local first = math.floor(now_ms() / HOUR_MS) - DAY_HOURS + 1
  local names = {}
  for hour = first, first + DAY_HOURS - 1 do
    names[#names + 1] = 'hour:' .. whole(hour)
  end
  local hours, sum = {}, 0
  for i, ms in ipairs(redis.call('HMGET', key('allowance', user), unpack(names))) do
    if ms then
      hours[#hours + 1] = {first + i - 1, tonumber(ms)}
      sum = sum + ms
    end
  end
  return hours, sum
end

-- Milliseconds until so much of the last day's use counts no more; -1 if all of it is less.
local function until_day_frees(hours, ms)
  for _, hour in ipairs(hours) do
    ms = ms - hour[2]
    if ms <= 0 then
      return (hour[1] + DAY_HOURS) * HOUR_MS - now_ms()
    end
  end
  return -1
end

-- Book the GPU time that a job of this lane is expected to take.
-- Returns the time, or nil and why not: {name of the limit, limit, used and booked, expected, milliseconds until it may
-- be tried again or -1}. Of credits it is what an hour brings, and those that are free.
local function book_time(user, lane, limits)
  if not (limits.gpu_day or limits.gpu_workshop or limits.credits_hour) then
    return '0'
  end
  local _, duration = kind_of(lane)
  local expected = math.ceil(tonumber(duration or USUAL_MS))
  local kept = redis.call('HMGET', key('allowance', user), 'booked', 'total')
  local booked, total = tonumber(kept[1] or 0), tonumber(kept[2] or 0)
  if limits.gpu_workshop and total + booked + expected > limits.gpu_workshop then
    return nil, {'gpu_workshop', limits.gpu_workshop, total + booked, expected, -1}
  end
  if limits.gpu_day then
    local hours, used = last_day(user)
    local over = used + booked + expected - limits.gpu_day
    if over > 0 then
      return nil, {'gpu_day', limits.gpu_day, used + booked, expected, until_day_frees(hours, over)}
    end
  end
  if limits.credits_hour then
    local free = credits_of(user, limits.credits_hour) - booked
    if redis.call('HEXISTS', key('allowance', user), 'reckoned') == 0 or free >= expected then
      -- Also who is refused now has more in an hour.
      add_credits(user, limits.credits_hour, 0)
    end
    if free < expected then
      local short = expected - free
      local reach = booked + expected <= limits.credits_hour * MOST_HOURS
      return nil, {'credits', limits.credits_hour, free, expected, reach and short * HOUR_MS / limits.credits_hour or -1}
    end
  end
  redis.call('HINCRBY', key('allowance', user), 'booked', whole(expected))
  redis.call('EXPIRE', key('allowance', user), KEEP_S)
  return whole(expected)
end

-- End a job's booking.
local function end_booking(job_id, user)
  local booked = redis.call('HGET', key('job', job_id), 'booked')
  if booked then
    redis.call('HDEL', key('job', job_id), 'booked')
    redis.call('HINCRBY', key('allowance', user), 'booked', '-' .. booked)
  end
end

-- Settle GPU time that a person used.
local function settle_time(user, used)
  local ms = math.ceil(math.max(used, 0))
  local mine = key('allowance', user)
  local hour = math.floor(now_ms() / HOUR_MS)
  if redis.call('HEXISTS', mine, 'credits') == 1 then
    add_credits(user, limits_of(user).credits_hour or 0, -ms)
  end
  redis.call('HINCRBY', mine, 'total', whole(ms))
  if tonumber(redis.call('HINCRBY', mine, 'hour:' .. whole(hour), whole(ms))) == ms then
    -- The first of this hour: forget those that count no more.
    for _, field in ipairs(redis.call('HKEYS', mine)) do
      local old = tonumber(string.match(field, '^hour:(%d+)$'))
      if old and old <= hour - DAY_HOURS then
        redis.call('HDEL', mine, field)
      end
    end
    redis.call('EXPIRE', mine, KEEP_S)
  end
end
