-- Set how the queue is worked off.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  'default' to leave alone what is set already, else 'set'
-- ARGV[2...] name and value, name and value, ...; an empty value takes a limit away. Names: 'mode' ('fifo', 'round_robin',
--          'fair'), 'paused' ('1' or ''), 'in_all', 'affinity_ms', and the LIMITS of includes/allowance.lua
--
-- Returns 'ok'.
-- Invariant: takes hold with the next claim; running jobs go on. A waiting worker gets what it may run now.
-- @include keys
-- @include lanes
-- @include policy_fifo
-- @include policy_round_robin
-- @include policy_fair
-- @include memory
-- @include affinity
-- @include assign

proceed_when_full()
for i = 2, #ARGV, 2 do
  local name, value = ARGV[i], ARGV[i + 1]
  local is_set = redis.call('HGET', key('policy'), name)
  if ARGV[1] == 'set' or not is_set then
    redis.call('HSET', key('policy'), name, value)
  end
end
feed_idle_workers()
redis.call('PUBLISH', key('events'), cjson.encode({policy = true}) .. '\n')
return 'ok'
