-- Change where queued jobs stand: their level, held back, or released again.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  what: 'level', 'hold' or 'release'      ARGV[2]  the level: 'front' or '0' to '3', else ''
-- ARGV[3...] job ids
--
-- Returns the ids of the jobs that changed.
-- Invariant: only queued jobs change, a held one is in no lane, and whatever a waiting worker may run now is handed to it.
-- @include keys
-- @include lanes
-- @include policy_fifo
-- @include policy_round_robin
-- @include policy_fair
-- @include memory
-- @include affinity
-- @include assign

local what, level = ARGV[1], ARGV[2]
proceed_when_full()
local changed = {}
for i = 3, #ARGV do
  local job_id = ARGV[i]
  local job = key('job', job_id)
  local fields = redis.call('HMGET', job, 'state', 'user', 'lane', 'level', 'number', 'held')
  local user, lane, number, held = fields[2], fields[3], fields[5], fields[6]
  local target = level
  if what ~= 'level' then
    target = fields[4]
  end
  local is_change = (what == 'hold' and not held) or (what == 'release' and held)
    or (what == 'level' and (target ~= fields[4] or target == 'front'))
  if fields[1] == 'queued' and is_change then
    if not held then
      leave_lane(job_id, fields[4], user, lane)
    end
    if what == 'level' and target == 'front' then
      -- Ahead of those that were moved there before, as ComfyUI's own front does.
      number = -redis.call('INCR', key('submitted'))
    end
    redis.call('HSET', job, 'level', target, 'number', number)
    if what == 'hold' then
      held = '1'
      redis.call('HSET', job, 'held', held)
    elseif what == 'release' then
      held = nil
      redis.call('HDEL', job, 'held')
    end
    if not held then
      enter_lane(job_id, target, user, lane, number)
    end
    redis.call('ZADD', key('active', user), number, job_id)
    publish_change(user)
    changed[#changed + 1] = job_id
  end
end
if #changed > 0 then
  feed_idle_workers()
end
return changed
