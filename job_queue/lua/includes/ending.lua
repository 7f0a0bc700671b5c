-- Ending a job. Needs includes/lanes.lua, includes/allowance.lua and includes/ledger.lua.

-- A worker's record stops naming a job that is no longer its own. Its claim stays there, spent: it never brings another.
local function release_worker(worker, claim)
  if worker and claim and redis.call('HGET', key('worker', worker), 'claim') == claim then
    redis.call('HDEL', key('worker', worker), 'job')
  end
end

-- How long a job ran, of what it took: without loading models, for which nobody is charged.
local function run_time(lane, took, loads)
  local usual = loads and redis.call('HGET', key('kind', lane), 'duration')
  return usual and math.min(took, usual) or took
end

-- How long jobs of a kind run ('duration') or load models ('load'), as a moving average in which the last few count most.
local function learn(lane, what, ms)
  local known = redis.call('HGET', key('kind', lane), what)
  redis.call('HSET', key('kind', lane), what, known and known + 0.3 * (ms - known) or ms)
  kinds[lane] = nil
  if not known then
    redis.call('EXPIRE', key('kind', lane), 60 * 60 * 24 * 90)
  end
end

-- Put a job into its final state. Invariant: it leaves every place where live jobs are, so it ends exactly once.
local function end_job(job_id, user, state, result, history_size, history_ms, files, frames)
  local job = key('job', job_id)
  local now = now_us()
  redis.call('HSET', job, 'state', state, 'result', result, 'finished', math.floor(now / 1000))
  redis.call('HDEL', job, 'secrets', 'envelope', 'cancel')
  end_booking(job_id, user)
  note_end(job_id, user, state, files, frames)
  redis.call('DEL', key('lease', job_id))
  redis.call('SREM', key('running'), job_id)
  redis.call('ZREM', key('active', user), job_id)
  redis.call('PEXPIRE', job, history_ms)
  redis.call('PEXPIRE', key('events', job_id), 600000)
  local history = key('history', user)
  -- One script at a time runs, so no two jobs end in one microsecond.
  redis.call('ZADD', history, now, job_id)
  -- Forget what is over the bound or too old, a few at a time.
  local over = math.min(redis.call('ZCARD', history) - history_size, 20)
  local forgotten = over > 0 and redis.call('ZRANGE', history, 0, over - 1) or {}
  local old = redis.call('ZRANGEBYSCORE', history, '-inf', now - history_ms * 1000, 'LIMIT', 0, 20)
  for _, list in ipairs({forgotten, old}) do
    for _, old_id in ipairs(list) do
      redis.call('ZREM', history, old_id)
      redis.call('DEL', key('job', old_id), key('events', old_id))
    end
  end
  -- Of a person who does not come back nothing stays either.
  redis.call('PEXPIRE', history, history_ms)
end
