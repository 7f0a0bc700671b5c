-- Claiming the next job. Needs includes/keys.lua and includes/assign.lua.

-- The job for a worker, {} when it now waits at its inbox, {'short', bytes} when it does and a job would be its own if it
-- had so much room, {'unknown'} when it must register first, or {'spent'} when the claim's job is no longer its own.
-- See claim.lua.
local function claim_next(worker, instance, claim, catalogue, lease_ms, turn, room)
  local known = redis.call('HMGET', key('worker', worker), 'instance', 'claim', 'job', 'turn', 'drained', 'room')
  if known[1] ~= instance then
    return {'unknown'}
  end
  if known[2] == claim then
    if known[3] and redis.call('GET', key('lease', known[3])) == claim then
      return job_for_worker(known[3], memory_of(redis.call('HGET', key('job', known[3]), 'lane')))
    end
    return {'spent'}
  end
  if known[4] and tonumber(turn) < tonumber(known[4]) then
    return {'spent'}
  end
  if redis.call('EXISTS', key('presence', worker)) == 0 then
    return {'unknown'}
  end
  proceed_when_full()
  redis.call('DEL', key('inbox', worker))
  if known[4] ~= turn or known[6] ~= room then
    redis.call('HSET', key('worker', worker), 'turn', turn, 'room', room)
  end
  if known[5] then
    -- It waits at its inbox for the word that it may go on.
    return {}
  end
  local can = {claim = claim, catalogue = catalogue, room = room, lease_ms = tonumber(lease_ms)}
  local job = assign(worker, claim, can, lease_ms)
  if job then
    return job
  end
  redis.call('HSET', key('idle'), worker, cjson.encode(can))
  return least_short and {'short', string.format('%.0f', least_short)} or {}
end
