-- Show a lost worker no longer.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  worker
--
-- Returns 'ok', 'live' when it is not lost, or 'unknown' when there is no such worker.
-- Invariant: only a worker that was given up is dismissed. One that comes back is there again.
-- @include keys

local worker = ARGV[1]
if redis.call('SISMEMBER', key('workers'), worker) == 1 then
  return 'live'
end
if redis.call('ZREM', key('lost'), worker) == 0 then
  return 'unknown'
end
redis.call('PUBLISH', key('events'), cjson.encode({workers = true}) .. '\n')
return 'ok'
