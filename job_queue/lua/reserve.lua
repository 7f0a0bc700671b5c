-- Keep a worker for one person, or give it back to all.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  worker      ARGV[2]  user, or '' for all
--
-- Returns 'ok'.
-- Invariant: what the worker runs already goes on; from then on it gets that person's jobs alone, which may run elsewhere
-- too.
-- @include keys
-- @include lanes
-- @include policy_fifo
-- @include policy_round_robin
-- @include policy_fair
-- @include memory
-- @include affinity
-- @include assign

proceed_when_full()
if ARGV[2] == '' then
  redis.call('HDEL', key('reserved'), ARGV[1])
else
  redis.call('HSET', key('reserved'), ARGV[1], ARGV[2])
end
feed_idle_workers()
redis.call('PUBLISH', key('events'), cjson.encode({policy = true}) .. '\n')
return 'ok'
