-- Give one person limits of their own.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  user
-- ARGV[2...] name and value, name and value, ...: names are the LIMITS of includes/allowance.lua; an empty value is no limit,
--          'usual' is that of all others again
--
-- Returns 'ok'.
-- Invariant: takes hold with the next submit; jobs that are queued stay.
-- @include keys

proceed_when_full()
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == 'usual' then
    redis.call('HDEL', key('limits', ARGV[1]), ARGV[i])
  else
    redis.call('HSET', key('limits', ARGV[1]), ARGV[i], ARGV[i + 1])
  end
end
return 'ok'
