-- Keep a worker and the lease of its job alive, and learn whether the job was cancelled.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  worker      ARGV[2]  instance      ARGV[3]  lease in milliseconds
-- ARGV[4]  job id or ''      ARGV[5]  claim id or ''
--
-- Returns 'ok', 'cancel', 'lost' (the claim is another's now) or 'unknown' (the worker must register again).
-- Invariant: only PEXPIRE writes here, which needs no memory: a lease is renewed even when the store is full.
-- @include keys

local worker = ARGV[1]
if redis.call('HGET', key('worker', worker), 'instance') ~= ARGV[2] then
  return 'unknown'
end
-- The lease first: a worker that must register again keeps the job that it has.
local lease = key('lease', ARGV[4])
local has_job = ARGV[4] ~= ''
local holds = has_job and redis.call('GET', lease) == ARGV[5]
if holds then
  redis.call('PEXPIRE', lease, ARGV[3])
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
if redis.call('HGET', key('job', ARGV[4]), 'cancel') then
  return 'cancel'
end
return 'ok'
