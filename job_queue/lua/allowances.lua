-- What some people may use, and have used.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  a user      ARGV[2...] further ones
--
-- Returns JSON, an object for each of them in order: {limits = {name = limit}, own = {name, ...}, total, day, booked,
-- credits, queued}. `own` names the limits that are not those of all; `credits` is there where credits are counted.
-- Invariant: one moment; reads only.
-- @include keys
-- @include lanes
-- @include policy_fifo
-- @include policy_round_robin
-- @include policy_fair
-- @include allowance

local told = {}
for i, user in ipairs(ARGV) do
  local limits = limits_of(user)
  local kept = redis.call('HMGET', key('allowance', user), 'total', 'booked')
  local _, day = last_day(user)
  told[i] = {limits = limits, own = redis.call('HKEYS', key('limits', user)), total = tonumber(kept[1] or 0),
    booked = tonumber(kept[2] or 0), day = day, queued = redis.call('ZCARD', key('active', user)),
    credits = limits.credits_hour and credits_of(user, limits.credits_hour)}
end
return cjson.encode(told)
