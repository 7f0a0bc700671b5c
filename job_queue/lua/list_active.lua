-- A user's jobs that have not ended, in the order of the queue.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  user
--
-- Returns {id, state, number, client, ...} for each job, flat.
-- Invariant: one moment of the queue; reads only.
-- @include keys

local out = {}
for _, job_id in ipairs(redis.call('ZRANGE', key('active', ARGV[1]), 0, -1)) do
  local fields = redis.call('HMGET', key('job', job_id), 'state', 'number', 'client')
  if fields[1] then
    out[#out + 1] = job_id
    out[#out + 1] = fields[1]
    out[#out + 1] = fields[2]
    out[#out + 1] = fields[3] or ''
  end
end
return out
