-- What became of the workshop's jobs, for its history and costs. Needs includes/keys.lua.
--
-- The stream `ledger` has an entry for each job that ended: nobody's deleting of their own history changes it. `ended`
-- counts them, also those whose entries are dropped by now.

-- Entries that are kept, and some hundred more; about 10 MB.
local MOST_ENTRIES = 50000

-- Note that a job has ended, and that somebody wants to be told. `files` is how many it has made, `frames`
-- how many images and frames of films are in them. Times are milliseconds.
-- A job that no worker had at its end has no worker, also if one had it before and lost it: what it waited since then
-- is no time of a worker. `loads` says whether its worker had to load models for it, `lost` how many claims it lost.
local function note_end(job_id, user, state, files, frames)
  local job = redis.call('HMGET', key('job', job_id), 'submitted', 'claimed', 'worker', 'level', 'attempt',
    'webhook', 'loads', 'lost', 'name')
  -- A queued job that is cancelled has no result.
  local had_worker = job[3] and redis.call('HEXISTS', key('job', job_id), 'result') == 1
  local worker = had_worker and job[3] or ''
  redis.call('XADD', key('ledger'), 'MAXLEN', '~', MOST_ENTRIES, '*', 'job', job_id, 'user', user, 'state', state,
    'submitted', job[1] or '', 'claimed', had_worker and job[2] or '', 'ended', now_ms(), 'worker', worker,
    'level', job[4] or '', 'attempt', job[5] or '0', 'files', files or 0, 'frames', frames or 0,
    'price', had_worker and redis.call('HGET', key('worker', worker), 'price') or '',
    'loads', had_worker and job[7] or '', 'lost', job[8] or '0', 'name', job[9] or '')
  redis.call('INCR', key('ended'))
  if job[6] then
    redis.call('XADD', key('webhooks'), 'MAXLEN', '~', MOST_ENTRIES, '*', 'job', job_id, 'user', user, 'state', state,
      'url', job[6])
  end
end
