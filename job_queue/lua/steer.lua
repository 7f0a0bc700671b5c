-- Change where queued jobs stand: their level, held back, or released again.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  what: 'level', 'hold' or 'release'      ARGV[2]  the level: 'front' or '0' to '3', else ''
-- ARGV[3...] job ids
--
-- Returns the ids of the jobs that changed.
-- Of several that go to the front the first one named goes first. Whatever becomes of its level, a job keeps the number
-- that it was submitted with, and stands by that one again as soon as it is not at the front.
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
local first, last, step = 3, #ARGV, 1
if what == 'level' and level == 'front' then
  -- Each goes ahead of those that were moved there before, as with ComfyUI's own front.
  first, last, step = last, first, -1
end
proceed_when_full()
local changed = {}
for i = first, last, step do
  local job_id = ARGV[i]
  local job = key('job', job_id)
  local fields = redis.call('HMGET', job, 'state', 'user', 'lane', 'level', 'held')
  local user, lane, former, held = fields[2], fields[3], fields[4], fields[5]
  local target = what == 'level' and level or former
  local is_change = (what == 'hold' and not held) or (what == 'release' and held)
    or (what == 'level' and (target ~= former or target == 'front'))
  if fields[1] == 'queued' and is_change then
    if not held then
      leave_lane(job_id, former, user, lane)
    end
    if what == 'hold' then
      held = '1'
      redis.call('HSET', job, 'held', held)
    elseif what == 'release' then
      held = nil
      redis.call('HDEL', job, 'held')
    elseif target == 'front' then
      redis.call('HSET', job, 'level', target, 'rank', -redis.call('INCR', key('submitted')))
    else
      redis.call('HSET', job, 'level', target)
      redis.call('HDEL', job, 'rank')
    end
    local rank = rank_of(job_id)
    if not held then
      enter_lane(job_id, target, user, lane, rank)
    end
    redis.call('ZADD', key('active', user), rank, job_id)
    publish_change(user)
    changed[#changed + 1] = job_id
  end
end
if #changed > 0 then
  feed_idle_workers()
end
return changed
