-- Delete finished jobs from a user's history.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  user
-- ARGV[2...] job ids; none means all of the user's history
--
-- Returns how many were forgotten.
-- Invariant: only jobs that have ended, and only this user's.
-- @include keys

local user = ARGV[1]
local ids = {}
for i = 2, #ARGV do
  ids[#ids + 1] = ARGV[i]
end
if #ids == 0 then
  ids = redis.call('ZRANGE', key('history', user), 0, -1)
end
local forgotten = 0
for _, job_id in ipairs(ids) do
  if redis.call('ZREM', key('history', user), job_id) == 1 then
    redis.call('DEL', key('job', job_id), key('events', job_id))
    forgotten = forgotten + 1
  end
end
return forgotten
