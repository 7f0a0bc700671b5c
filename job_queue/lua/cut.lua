-- Read all that must be of one moment in a copy of the workshop: the jobs that have not ended, and the counts about them.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  a person whose allowance is read      ARGV[2...] further ones
--
-- Returns {microseconds by the store's clock, jobs = {{id, {field, value, ...}}, ...}, hashes = {{name, {field, value, ...}},
-- ...}, sorted sets = {{name, {member, score, ...}}, ...}, counters = {{name, value}, ...}}.
-- Where jobs stand is not read: it follows from the jobs, see swap_in.lua. Ended jobs do not change, so they need no moment:
-- those that ended by this one are read afterwards.
-- Invariant: changes nothing.
-- @include keys

local jobs, hashes = {}, {}
local function read_jobs(ids)
  for _, job_id in ipairs(ids) do
    local fields = redis.call('HGETALL', key('job', job_id))
    if #fields > 0 then
      jobs[#jobs + 1] = {job_id, fields}
    end
  end
end
read_jobs(redis.call('ZRANGE', key('queued'), 0, -1))
read_jobs(redis.call('SMEMBERS', key('running')))

local function read_hash(name, id)
  local fields = redis.call('HGETALL', key(name, id))
  if #fields > 0 then
    hashes[#hashes + 1] = {id and name .. ':' .. id or name, fields}
  end
end
for _, user in ipairs(ARGV) do
  read_hash('allowance', user)
end
read_hash('policy')
read_hash('served')
read_hash('reserved')

local counters, sets = {}, {}
for _, name in ipairs({'submitted', 'ended'}) do
  counters[#counters + 1] = {name, redis.call('GET', key(name)) or '0'}
end
for _, name in ipairs({'usage', 'turns'}) do
  sets[#sets + 1] = {name, redis.call('ZRANGE', key(name), 0, -1, 'WITHSCORES')}
end
return {string.format('%.0f', now_us()), jobs, hashes, sets, counters}
