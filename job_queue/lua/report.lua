-- Note what a worker measures of its machine, and tell the frontends.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  worker      ARGV[2]  instance      ARGV[3]  what was measured, as JSON
--
-- Returns 'ok', or 'unknown' when the worker must register first.
-- Invariant: only the process that holds the name reports under it.
-- @include keys

local record = key('worker', ARGV[1])
if redis.call('HGET', record, 'instance') ~= ARGV[2] then
  return 'unknown'
end
proceed_when_full()
redis.call('HSET', record, 'measured', ARGV[3], 'measured_at', now_ms())
redis.call('PUBLISH', key('events'), cjson.encode({measured = ARGV[1]}) .. '\n')
return 'ok'
