-- Publish a batch of a running job's events; keep those that a browser may not miss.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  job id      ARGV[2]  claim id
-- ARGV[3]  batch to publish, with everything      ARGV[4]  batch to keep, or ''
--
-- Returns 'ok' or 'lost'.
-- Invariant: a worker whose claim is not the job's current one publishes nothing. A full store stops no running job.
-- @include keys

-- A job that never stops talking keeps the last ones.
local MOST_BATCHES = 5000

local job = key('job', ARGV[1])
local current = redis.call('HMGET', job, 'claim', 'state')
if current[1] ~= ARGV[2] or (current[2] ~= 'claimed' and current[2] ~= 'running') then
  return 'lost'
end
-- First to whoever waits; a batch of which nothing is kept writes nothing, so the store has nothing to sync.
redis.call('PUBLISH', key('events'), ARGV[3])
if ARGV[4] == '' then
  return 'ok'
end
proceed_when_full()
if current[2] == 'claimed' then
  redis.call('HSET', job, 'state', 'running', 'started', now_ms())
end
if redis.call('RPUSH', key('events', ARGV[1]), ARGV[4]) > MOST_BATCHES then
  redis.call('LTRIM', key('events', ARGV[1]), -MOST_BATCHES, -1)
end
return 'ok'
