-- Let a copy of a workshop, which lies beside it, take its place.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  JSON list of the keys that go      ARGV[2]  JSON list of those that come, from behind `restoring:`
-- ARGV[3]  JSON list of the jobs among them that have not ended
-- ARGV[4]  finished jobs kept for each user      ARGV[5]  milliseconds they are kept
--
-- Returns {jobs that are queued now, jobs that a worker had and that went back to the queue}.
-- A job that a worker had goes back to the queue as if that worker had left in good order: it loses no attempt. One that
-- was to be cancelled ends with that.
-- Invariant: all of the copy takes its place or nothing does, and every job of it that has not ended stands in the queue once.
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
-- @include ending
-- @include losses

local goes, comes, live = cjson.decode(ARGV[1]), cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
for _, name in ipairs(goes) do
  redis.call('DEL', key(name))
end
for _, name in ipairs(comes) do
  -- One whose time ran out meanwhile is not there any more.
  if redis.call('EXISTS', key('restoring', name)) == 1 then
    redis.call('RENAME', key('restoring', name), key(name))
  end
end

local booked, queued, returned = {}, 0, 0
-- Since when the levels wait, which their first job to arrive would change.
local served = redis.call('HGETALL', key('served'))
for _, job_id in ipairs(live) do
  local job = key('job', job_id)
  local fields = redis.call('HMGET', job, 'user', 'state', 'cancel', 'held', 'level', 'lane', 'submitted', 'booked')
  local user, rank = fields[1], rank_of(job_id)
  local had_worker = fields[2] ~= 'queued'
  redis.call('ZADD', key('active', user), rank, job_id)
  booked[user] = (booked[user] or 0) + tonumber(fields[8] or 0)
  if had_worker then
    redis.call('HDEL', job, 'claim')
    refund(job_id)
  end
  if had_worker and not fields[3] then
    return_to_lane(job_id)
    returned = returned + 1
    queued = queued + 1
  elseif not had_worker then
    redis.call('ZADD', key('queued'), fields[7], job_id)
    if not fields[4] then
      enter_lane(job_id, fields[5], user, fields[6], rank)
    end
    queued = queued + 1
  end
end
if #served > 0 then
  redis.call('HSET', key('served'), unpack(served))
end
for user, ms in pairs(booked) do
  if ms > 0 or redis.call('HEXISTS', key('allowance', user), 'booked') == 1 then
    redis.call('HSET', key('allowance', user), 'booked', whole(ms))
    redis.call('EXPIRE', key('allowance', user), KEEP_S)
  end
end
for _, job_id in ipairs(live) do
  local fields = redis.call('HMGET', key('job', job_id), 'state', 'user', 'cancel', 'worker')
  if fields[1] ~= 'queued' then
    give_up(job_id, fields[2], 'cancelled', note_loss(job_id, fields[4] or ''), tonumber(ARGV[4]), tonumber(ARGV[5]))
  end
end
for user in pairs(booked) do
  publish_change(user)
end
for _, notice in ipairs({'accounts', 'workers', 'policy'}) do
  redis.call('PUBLISH', key('events'), cjson.encode({[notice] = true}) .. '\n')
end
return {queued, returned}
