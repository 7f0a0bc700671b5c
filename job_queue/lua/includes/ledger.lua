-- What became of the workshop's jobs, for its history and costs. Needs includes/keys.lua.
--
-- The stream `ledger` has an entry for each job that ended: nobody's deleting of their own history changes it.

-- Entries that are kept, and some hundred more; about 10 MB.
local MOST_ENTRIES = 50000

-- Note that a job has ended, and that somebody wants to be told. `files` is how many it has made. Times are milliseconds; a job that was never claimed has no
-- worker.
local function note_end(job_id, user, state, files)
  local job = redis.call('HMGET', key('job', job_id), 'submitted', 'claimed', 'worker', 'level', 'attempt',
    'webhook')
  local worker = job[3] or ''
  redis.call('XADD', key('ledger'), 'MAXLEN', '~', MOST_ENTRIES, '*', 'job', job_id, 'user', user, 'state', state,
    'submitted', job[1] or '', 'claimed', job[2] or '', 'ended', now_ms(), 'worker', worker, 'level', job[4] or '',
    'attempt', job[5] or '0', 'files', files or 0,
    'price', worker ~= '' and redis.call('HGET', key('worker', worker), 'price') or '')
  if job[6] then
    redis.call('XADD', key('webhooks'), 'MAXLEN', '~', MOST_ENTRIES, '*', 'job', job_id, 'user', user, 'state', state,
      'url', job[6])
  end
end
