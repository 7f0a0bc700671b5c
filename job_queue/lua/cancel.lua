-- Cancel jobs of one user: queued ones leave the queue, running ones are interrupted on their worker.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  user      ARGV[2]  which: 'any', 'queued' or 'running'
-- ARGV[3...] job ids; none means all of the user's
--
-- Returns the ids that this call cancelled.
-- Invariant: a queued job that is cancelled never runs; a running one ends by its worker's word alone. Works in a full
-- store, since cancelling is a way to make room.
-- @include keys
-- @include lanes
-- @include policy_fifo
-- @include policy_round_robin
-- @include policy_fair
-- @include memory
-- @include affinity
-- @include assign
-- @include allowance
-- @include ledger

local user, which = ARGV[1], ARGV[2]
local ids = {}
for i = 3, #ARGV do
  ids[#ids + 1] = ARGV[i]
end
if #ids == 0 then
  ids = redis.call('ZRANGE', key('active', user), 0, -1)
end
proceed_when_full()
local cancelled = {}
for _, job_id in ipairs(ids) do
  local job = key('job', job_id)
  local fields = redis.call('HMGET', job, 'user', 'state', 'lane', 'worker', 'claim', 'level', 'held')
  if fields[1] == user then
    if fields[2] == 'queued' and which ~= 'running' then
      if not fields[7] then
        leave_lane(job_id, fields[6], user, fields[3])
      end
      redis.call('ZREM', key('queued'), job_id)
      redis.call('ZREM', key('active', user), job_id)
      redis.call('HSET', job, 'state', 'cancelled', 'finished', now_ms())
      redis.call('HDEL', job, 'secrets', 'envelope', 'payload')
      redis.call('EXPIRE', job, 86400)
      end_booking(job_id, user)
      note_end(job_id, user, 'cancelled')
      cancelled[#cancelled + 1] = job_id
    elseif (fields[2] == 'claimed' or fields[2] == 'running') and which ~= 'queued' then
      redis.call('HSET', job, 'cancel', '1')
      redis.call('PUBLISH', key('control'),
        cjson.encode({kind = 'cancel', worker = fields[4], job = job_id, claim = fields[5]}))
      cancelled[#cancelled + 1] = job_id
    end
  end
end
if #cancelled > 0 then
  publish_change(user)
end
return cancelled
