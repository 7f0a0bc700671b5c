-- Keep a worker and the lease of its job alive, and learn whether the job was cancelled.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  worker      ARGV[2]  instance      ARGV[3]  lease in milliseconds
-- ARGV[4]  job id or ''      ARGV[5]  claim id or ''
--
-- Returns 'ok', 'cancel', 'lost' (the claim is another's now) or 'unknown' (the worker must register again).
-- Invariant: a lease is renewed even when the store is full, and one that ran out comes back as long as nobody has taken
-- the job: what a job's worker may write is decided by its claim, the lease only tells that the worker lives.
-- @include keys

local worker = ARGV[1]
if redis.call('HGET', key('worker', worker), 'instance') ~= ARGV[2] then
  return 'unknown'
end
-- The lease first: a worker that must register again keeps the job that it has.
local lease = key('lease', ARGV[4])
local has_job = ARGV[4] ~= ''
local job = has_job and redis.call('HMGET', key('job', ARGV[4]), 'claim', 'state', 'cancel')
local holds = has_job and job[1] == ARGV[5] and (job[2] == 'claimed' or job[2] == 'running')
if holds and redis.call('PEXPIRE', lease, ARGV[3]) == 0 then
  -- It ran out, perhaps while the store was away, and nobody has taken the job.
  proceed_when_full()
  redis.call('SET', lease, ARGV[5], 'PX', ARGV[3])
end
if redis.call('PEXPIRE', key('presence', worker), ARGV[3]) == 0 then
  return 'unknown'
end
if not has_job then
  return 'ok'
end
if not holds then
  return 'lost'
end
if job[3] then
  return 'cancel'
end
return 'ok'
