-- Announce a worker and what it can run.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  worker      ARGV[2]  instance: random id of its process      ARGV[3]  lease in milliseconds
-- ARGV[4]  description as JSON (host, pid, devices)
-- ARGV[5]  digest of its catalogue
-- ARGV[6]  '1' when the one who holds the name is known to be dead
-- ARGV[7]  what an hour of it costs, '' if nobody has said
--
-- Returns {'ok'}, {'taken', description of the one who has the name} or {'capabilities'} when those must be stored first.
-- Invariant: one live process has a name. What the last one with this name left unfinished goes back to the queue at once.
-- @include keys
-- @include lanes
-- @include policy_fifo
-- @include policy_round_robin
-- @include policy_fair
-- @include memory
-- @include affinity
-- @include assign

local worker, instance = ARGV[1], ARGV[2]
local record = key('worker', worker)
local known = redis.call('HMGET', record, 'instance', 'description', 'job', 'claim')
if known[1] and known[1] ~= instance and redis.call('EXISTS', key('presence', worker)) == 1 and ARGV[6] ~= '1' then
  return {'taken', known[2]}
end
if redis.call('EXISTS', key('capabilities', ARGV[5])) == 0 then
  return {'capabilities'}
end
proceed_when_full()
if known[1] ~= instance and known[3] then
  local job = key('job', known[3])
  if redis.call('HGET', job, 'claim') == known[4] then
    -- Its lease ends here; the sweep decides what becomes of the job.
    redis.call('DEL', key('lease', known[3]))
    redis.call('SADD', key('orphans'), known[3])
  end
end
if known[1] ~= instance then
  redis.call('HDEL', record, 'job', 'claim', 'turn', 'loaded', 'drained')
end
if redis.call('HDEL', key('idle'), worker) == 1 and known[1] == instance then
  -- It waits with what it could run before; an empty item makes it ask again.
  redis.call('RPUSH', key('inbox', worker), '')
  redis.call('PEXPIRE', key('inbox', worker), ARGV[3])
end
redis.call('HSET', record, 'instance', instance, 'description', ARGV[4], 'catalogue', ARGV[5],
  'price', ARGV[7] or '')
redis.call('PERSIST', record)
redis.call('SET', key('presence', worker), instance, 'PX', ARGV[3])
redis.call('SADD', key('workers'), worker)
redis.call('INCR', key('catalogue-version'))
redis.call('PUBLISH', key('events'), cjson.encode({workers = true}) .. '\n')
return {'ok'}
