-- Store one job and hand it to an idle worker if one fits.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  job id                      ARGV[2]  user
-- ARGV[3]  digest of what was asked    ARGV[4]  order: 'back', 'front' or a number (not finite: 'back')
-- ARGV[5]  payload, kept for history   ARGV[6]  secrets, deleted when the job ends
-- ARGV[7]  envelope, for the worker    ARGV[8]  lane: digest of the needs
-- ARGV[9]  client id                   ARGV[10] brief, what lists show of the payload
-- ARGV[11] digest of the models among the needs, '' for none
-- ARGV[12] bytes of a GPU's memory that the graph states, '' for none      ARGV[13] bytes by its model files, or ''
-- ARGV[14] bytes that the person's files take, '' if nobody has counted
-- ARGV[15] address to which its end is told, or ''
-- ARGV[16] name of its workflow, or ''
-- ARGV[17...] needs: what a worker must have to run the job
--
-- Returns {'stored' | 'known', number}, {'conflict'}, or {'limited', name of the limit, limit, ...} with what
-- includes/allowance.lua adds for GPU time and credits; behind the limit of 'disk' stands what is used.
-- Invariant: one id is one job. The same submit again changes nothing; another one under a known id is refused, and so is
-- one over a limit.
-- @include keys
-- @include lanes
-- @include policy_fifo
-- @include policy_round_robin
-- @include policy_fair
-- @include memory
-- @include affinity
-- @include assign
-- @include allowance

local job_id, user, digest, order = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local job = key('job', job_id)

local known = redis.call('HMGET', job, 'digest', 'number')
if known[1] then
  if known[1] == digest then
    return {'known', known[2]}
  end
  return {'conflict'}
end

local policy = redis.call('HMGET', key('policy'), 'in_all', 'paused')
local limits = limits_of(user)
if limits.per_person and redis.call('ZCARD', key('active', user)) >= limits.per_person then
  return {'limited', 'per_person', limits.per_person}
end
local queued = redis.call('ZCARD', key('queued'))
-- An empty one is no limit: tonumber('') is nil.
local in_all = tonumber(policy[1] or '')
if in_all and queued >= in_all then
  return {'limited', 'in_all', in_all}
end
local used = tonumber(ARGV[14])
if limits.disk and used and used >= limits.disk then
  return {'limited', 'disk', whole(limits.disk), whole(used)}
end
local minute = key('submits', user .. ':' .. math.floor(now_ms() / 60000))
if limits.per_minute and tonumber(redis.call('GET', minute) or 0) >= limits.per_minute then
  return {'limited', 'per_minute', limits.per_minute}
end
local lane = ARGV[8]
local booked, why_not = book_time(user, lane, limits)
if not booked then
  local told = {'limited', why_not[1]}
  for i = 2, #why_not do
    told[i + 1] = whole(why_not[i])
  end
  return told
end
if limits.per_minute then
  redis.call('INCR', minute)
  redis.call('EXPIRE', minute, 120)
end

local sequence = redis.call('INCR', key('submitted'))
local number = sequence
if order == 'front' then
  number = -sequence
elseif order ~= 'back' then
  local asked = tonumber(order)
  if asked and asked == asked and math.abs(asked) < math.huge then
    number = asked
  end
end
-- tostring() would round to 14 digits.
local written = string.format('%.17g', number)

local submitted = now_ms()
redis.call('HSET', job, 'user', user, 'digest', digest, 'number', written, 'payload', ARGV[5], 'secrets', ARGV[6],
  'envelope', ARGV[7], 'lane', lane, 'client', ARGV[9], 'brief', ARGV[10], 'state', 'queued', 'attempt', 0,
  'level', USUAL_LEVEL, 'submitted', submitted)
for field, value in pairs({webhook = ARGV[15], name = ARGV[16]}) do
  if value ~= '' then
    redis.call('HSET', job, field, value)
  end
end
if booked ~= '0' then
  redis.call('HSET', job, 'booked', booked)
end
redis.call('ZADD', key('active', user), written, job_id)
if redis.call('TTL', key('needs', lane)) < 60 * 60 * 24 * 60 then
  -- Not known yet, or not used for a month.
  for i = 17, #ARGV, 1000 do
    -- unpack() takes a few thousand at most.
    redis.call('SADD', key('needs', lane), unpack(ARGV, i, math.min(i + 999, #ARGV)))
  end
  redis.call('EXPIRE', key('needs', lane), 60 * 60 * 24 * 90)
  for field, value in pairs({models = ARGV[11], stated = ARGV[12], estimate = ARGV[13]}) do
    if value ~= '' then
      redis.call('HSET', key('kind', lane), field, value)
    end
  end
  redis.call('EXPIRE', key('kind', lane), 60 * 60 * 24 * 90)
end
if policy[2] == '1' or queued > 0 or not hand_over(job_id, user, lane, ARGV[11]) then
  redis.call('ZADD', key('queued'), submitted, job_id)
  enter_lane(job_id, USUAL_LEVEL, user, lane, written)
  publish_change(user)
  -- A worker that waits for jobs with its models may take it, or what has waited long enough by now.
  feed_idle_workers()
end
return {'stored', written}
