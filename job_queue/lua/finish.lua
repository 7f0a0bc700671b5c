-- End a job with its result and its last events, and claim the worker's next one, as one change.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  job id      ARGV[2]  claim id
-- ARGV[3]  final state: 'done', 'error' or 'cancelled'
-- ARGV[4]  result      ARGV[5]  batch of the last events, to publish
-- ARGV[6]  finished jobs kept for the user      ARGV[7]  milliseconds they are kept
-- ARGV[8]  instance of the worker's process, or '' to claim nothing
-- ARGV[9]  claim id of the next claim      ARGV[10] digest of the catalogue
-- ARGV[11] lease in milliseconds           ARGV[12] turn, all as in claim.lua
-- ARGV[13] batch to keep: the last events, and those before that are not kept yet
-- ARGV[14] bytes that the next job may need, as in claim.lua      ARGV[15] peak of this job in bytes, '' if not known
-- ARGV[16] how many files it has made          ARGV[17] how many images and frames of films are in them
--
-- Returns {'ok', ...}, {'known'} when this claim has ended the job before, or {'lost'}. Behind 'ok' stands what claim.lua
-- would have returned.
-- Invariant: the result can be read before anyone sees the last event, and only the current claim can end a job,
-- in a full store too.
-- @include keys
-- @include lanes
-- @include policy_fifo
-- @include policy_round_robin
-- @include policy_fair
-- @include memory
-- @include affinity
-- @include assign
-- @include claiming
-- @include allowance
-- @include ledger
-- @include ending

local job = key('job', ARGV[1])
local current = redis.call('HMGET', job, 'claim', 'state', 'user', 'worker', 'lane', 'claimed', 'charged', 'loads')
if current[1] ~= ARGV[2] then
  return {'lost'}
end
if current[2] ~= 'claimed' and current[2] ~= 'running' then
  return {'known'}
end
proceed_when_full()
-- Nobody receives it before this script is through. It says that the job ended, so the change is not published as well.
redis.call('PUBLISH', key('events'), ARGV[5])
redis.call('RPUSH', key('events', ARGV[1]), ARGV[13])
local took = now_ms() - current[6]
local ran = run_time(current[5], took, current[8] == '1')
charge(current[3], ran - (current[7] or 0))
settle_time(current[3], ran)
if ARGV[3] == 'done' then
  if ran < took then
    learn(current[5], 'load', took - ran)
  else
    learn(current[5], 'duration', ran)
  end
  if (ARGV[15] or '') ~= '' then
    learn_memory(current[5], tonumber(ARGV[15]))
  end
end
release_worker(current[4], ARGV[2])
end_job(ARGV[1], current[3], ARGV[3], ARGV[4], tonumber(ARGV[6]), tonumber(ARGV[7]),
  tonumber(ARGV[16] or 0), tonumber(ARGV[17] or 0))
if ARGV[8] == '' then
  return {'ok', 'none'}
end
return {'ok', unpack(claim_next(current[4], ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[12], ARGV[14] or ''))}
