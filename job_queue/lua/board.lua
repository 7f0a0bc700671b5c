-- All that an instructor sees of the queue and the workers.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  '' (nothing is asked for yet)
--
-- Returns JSON: {now, mode, paused, ended, jobs = {{id, user, name, state, number, level, held, submitted, claimed, worker}},
-- workers = {{name, lease, lost, job, drained, reserved, price, description, measured, measured_at}}}. Times are milliseconds;
-- what is not there is missing. `lease` is how long a worker still counts as live, `lost` when it was given up; `ended` is how
-- many jobs have ended so far. Jobs stand in no order.
-- Invariant: one moment of the workshop; reads only.
-- @include keys

local function fields_of(kind, id, fields)
  local values = redis.call('HMGET', key(kind, id), unpack(fields))
  local found = {}
  for i, field in ipairs(fields) do
    found[field] = values[i] or nil
  end
  return found
end

local jobs, workers = {}, {}
for _, ids in ipairs({redis.call('SMEMBERS', key('running')), redis.call('ZRANGE', key('queued'), 0, -1)}) do
  for _, job_id in ipairs(ids) do
    local job = fields_of('job', job_id,
      {'user', 'name', 'state', 'number', 'level', 'held', 'submitted', 'claimed', 'worker', 'attempt'})
    if job.user then
      job.id = job_id
      jobs[#jobs + 1] = job
    end
  end
end
local function add_worker(name, lost)
  local worker = fields_of('worker', name,
    {'instance', 'job', 'drained', 'price', 'description', 'measured', 'measured_at'})
  worker.name = name
  worker.lease = redis.call('PTTL', key('presence', name))
  worker.reserved = redis.call('HGET', key('reserved'), name) or nil
  worker.lost = lost
  -- Of one that has left in good order since, nothing is there.
  if worker.instance then
    worker.instance = nil
    workers[#workers + 1] = worker
  end
end
for _, name in ipairs(redis.call('SMEMBERS', key('workers'))) do
  add_worker(name)
end
local lost = redis.call('ZRANGE', key('lost'), 0, -1, 'WITHSCORES')
for i = 1, #lost, 2 do
  -- One that has come back is lost no more, though no sweep has seen it yet.
  if redis.call('SISMEMBER', key('workers'), lost[i]) == 0 then
    add_worker(lost[i], tonumber(lost[i + 1]))
  end
end
local policy = redis.call('HMGET', key('policy'), 'mode', 'paused')
return cjson.encode({now = now_ms(), mode = policy[1] or 'fair', paused = policy[2] == '1',
  ended = tonumber(redis.call('GET', key('ended')) or 0), jobs = jobs, workers = workers})
