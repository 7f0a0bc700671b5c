-- Store one job and hand it to an idle worker if one fits.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  job id                      ARGV[2]  user
-- ARGV[3]  digest of what was asked    ARGV[4]  order: 'back', 'front' or a number (not finite: 'back')
-- ARGV[5]  payload, kept for history   ARGV[6]  secrets, deleted when the job ends
-- ARGV[7]  envelope, for the worker    ARGV[8]  lane: digest of the needs
-- ARGV[9]  client id                   ARGV[10] brief, what lists show of the payload
-- ARGV[11...] needs: what a worker must have to run the job
--
-- Returns {'stored' | 'known', number} or {'conflict'}.
-- Invariant: one id is one job. The same submit again changes nothing; another one under a known id is refused.
-- @include keys
-- @include assign

local job_id, user, digest, order = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local job = key('job', job_id)

local known = redis.call('HMGET', job, 'digest', 'number')
if known[1] then
  if known[1] == digest then
    return {'known', known[2]}
  end
  return {'conflict'}
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

local lane = ARGV[8]
redis.call('HSET', job, 'user', user, 'digest', digest, 'number', written, 'payload', ARGV[5], 'secrets', ARGV[6],
  'envelope', ARGV[7], 'lane', lane, 'client', ARGV[9], 'brief', ARGV[10], 'state', 'queued', 'attempt', 0,
  'submitted', now_ms())
redis.call('ZADD', key('active', user), written, job_id)
for i = 11, #ARGV, 1000 do
  -- unpack() takes a few thousand at most.
  redis.call('SADD', key('needs', lane), unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
redis.call('EXPIRE', key('needs', lane), 60 * 60 * 24 * 90)
if not hand_over(job_id, lane) then
  enter_lane(job_id, lane, written)
  publish_change(user)
end
return {'stored', written}
