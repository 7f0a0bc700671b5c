-- Let a worker finish what it runs and give it no more, or give it jobs again.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  worker      ARGV[2]  '1' to drain it, '' to end that
--
-- A worker that is drained is told so, since its machine may be taken away then.
--
-- Returns 'ok', or 'unknown' when there is no such worker.
-- Invariant: from here on a drained worker is bound to no job, also when it waits for one already. A new process under its
-- name is not drained.
-- @include keys

local worker = ARGV[1]
local record = key('worker', worker)
if redis.call('EXISTS', key('presence', worker)) == 0 then
  return 'unknown'
end
proceed_when_full()
if ARGV[2] == '1' then
  redis.call('HSET', record, 'drained', '1')
  redis.call('HDEL', key('idle'), worker)
  redis.call('PUBLISH', key('control'), cjson.encode({kind = 'drained', worker = worker}))
else
  redis.call('HDEL', record, 'drained')
  -- An empty item makes it ask again, if it waits.
  redis.call('RPUSH', key('inbox', worker), '')
  redis.call('PEXPIRE', key('inbox', worker), 10000)
end
redis.call('PUBLISH', key('events'), cjson.encode({workers = true}) .. '\n')
return 'ok'
