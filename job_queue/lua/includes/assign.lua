-- Choosing a job for a worker and binding it to a claim. Needs includes/lanes.lua and the policies.

local POLICIES = {fifo = pick_fifo, round_robin = pick_round_robin, fair = pick_fair}
-- A level at which people wait gets a job at least this often, whatever goes on at the levels above.
local PATIENCE_MS = 600000

-- Whether a catalogue offers everything that the jobs of a lane need. The answer for a pair never changes, since both
-- are named by their content, so it is remembered.
local function lane_fits(catalogue, lane)
  local memo = key('fits', catalogue)
  local known = redis.call('HGET', memo, lane)
  if known then
    return known == '1'
  end
  local missing = redis.call('SDIFF', key('needs', lane), key('capabilities', catalogue))
  redis.call('HSET', memo, lane, #missing == 0 and '1' or '0')
  if redis.call('TTL', memo) < 0 then
    -- Not put off by further lanes, so that it holds the lanes of one day at most.
    redis.call('EXPIRE', memo, 86400)
  end
  return #missing == 0
end

-- The lane of a person's first job at a level that this catalogue can run, and its number.
local function first_lane(level, user, catalogue)
  local lanes = redis.call('ZRANGE', key('lanes', level .. ':' .. user), 0, -1, 'WITHSCORES')
  for i = 1, #lanes, 2 do
    if lane_fits(catalogue, lanes[i]) then
      return lanes[i], tonumber(lanes[i + 1])
    end
  end
end

-- The levels in the order in which they are looked at: those that have waited too long come before their turn.
local function levels_in_order()
  local served = redis.call('HMGET', key('served'), unpack(LEVELS))
  local due, others = {}, {}
  for i, level in ipairs(LEVELS) do
    local waits = i > 1 and served[i] and now_ms() - served[i] > PATIENCE_MS
    local list = waits and due or others
    list[#list + 1] = level
  end
  for _, level in ipairs(others) do
    due[#due + 1] = level
  end
  return due
end

-- The first queued job that a worker with this catalogue may run: its level, person and lane, or nothing.
-- `only` is the one person that the worker is reserved for, or nil.
local function choose(catalogue, only)
  local mode = redis.call('HGET', key('policy'), 'mode') or 'fair'
  for _, level in ipairs(levels_in_order()) do
    local people
    if only then
      people = {only, '0'}
    else
      people = redis.call('ZRANGE', key('people', level), 0, -1, 'WITHSCORES')
    end
    if #people > 0 then
      -- Ahead of all is ahead of all, also under another policy.
      local pick = level == 'front' and pick_fifo or POLICIES[mode]
      local user, lane = pick(people, function(user)
        return first_lane(level, user, catalogue)
      end)
      if user then
        redis.call('HSET', key('served'), level, now_ms())
        return level, user, lane
      end
    end
  end
end

-- What a worker is told of a job: the fields it needs to run it.
local function job_for_worker(job_id)
  local job = redis.call('HMGET', key('job', job_id), 'user', 'number', 'payload', 'secrets', 'envelope', 'attempt', 'claim')
  return {job_id, unpack(job)}
end

-- Bind a job that stands in no lane to a worker's claim. Returns the job for the worker.
-- Invariant: a job has at most one claim, and the lease key exists from the moment the claim does.
local function bind(job_id, user, lane, worker, claim, lease_ms)
  local job = key('job', job_id)
  local expected = tonumber(redis.call('HGET', key('kind', lane), 'duration') or USUAL_MS)
  redis.call('HINCRBY', job, 'attempt', 1)
  redis.call('HSET', job, 'state', 'claimed', 'claim', claim, 'worker', worker, 'claimed', now_ms(), 'charged', expected)
  redis.call('SADD', key('running'), job_id)
  redis.call('SET', key('lease', job_id), claim, 'PX', lease_ms)
  redis.call('HSET', key('worker', worker), 'claim', claim, 'job', job_id)
  redis.call('HDEL', key('idle'), worker)
  -- Now and not at the end, or one person would get all the workers at once.
  charge(user, expected)
  take_turn(user)
  publish_change(user)
  return job_for_worker(job_id)
end

-- What a person was charged for a job that did not run to its end.
local function refund(job_id)
  local fields = redis.call('HMGET', key('job', job_id), 'user', 'charged')
  charge(fields[1], -(fields[2] or 0))
end

local function is_paused()
  return redis.call('HGET', key('policy'), 'paused') == '1'
end

local function reserved_for(worker)
  return redis.call('HGET', key('reserved'), worker) or nil
end

-- Bind the worker's best job to its claim. Returns the job for the worker, or nil when nothing fits it.
local function assign(worker, claim, catalogue, lease_ms)
  if is_paused() then
    return nil
  end
  local level, user, lane = choose(catalogue, reserved_for(worker))
  if not level then
    return nil
  end
  local job_id = redis.call('ZRANGE', key('lane', level .. ':' .. user .. ':' .. lane), 0, 0)[1]
  leave_lane(job_id, level, user, lane)
  redis.call('ZREM', key('queued'), job_id)
  return bind(job_id, user, lane, worker, claim, lease_ms)
end

-- Fields in one string, each behind its length as four bytes, for the one reply that is no script's: an inbox item.
local function pack(fields)
  local parts = {}
  for i, field in ipairs(fields) do
    parts[i] = struct.pack('>I4c0', #field, field)
  end
  return table.concat(parts)
end

local function put_in_inbox(worker, job, lease_ms)
  redis.call('RPUSH', key('inbox', worker), pack(job))
  redis.call('PEXPIRE', key('inbox', worker), lease_ms)
end

-- Call `offer(worker, request)` for each live worker that waits for a job, until it returns true.
local function each_idle_worker(offer)
  local idle = redis.call('HGETALL', key('idle'))
  for i = 1, #idle, 2 do
    local worker = idle[i]
    if redis.call('EXISTS', key('presence', worker)) == 0 then
      redis.call('HDEL', key('idle'), worker)
    elseif offer(worker, cjson.decode(idle[i + 1])) then
      return true
    end
  end
  return false
end

-- Hand a new job to a worker that waits for one; true if there is one that may run it. A worker waits only while nothing
-- in the lanes is for it, so the job overtakes none.
local function hand_over(job_id, user, lane)
  return not is_paused() and each_idle_worker(function(worker, request)
    local only = reserved_for(worker)
    if (not only or only == user) and lane_fits(request.catalogue, lane) then
      local job = bind(job_id, user, lane, worker, request.claim, request.lease_ms)
      put_in_inbox(worker, job, request.lease_ms)
      return true
    end
  end)
end

-- Hand queued jobs to the workers that wait for one.
local function feed_idle_workers()
  local nothing_for = {}
  each_idle_worker(function(worker, request)
    local kind = request.catalogue .. (reserved_for(worker) or '')
    local job = not nothing_for[kind] and assign(worker, request.claim, request.catalogue, request.lease_ms)
    if job then
      put_in_inbox(worker, job, request.lease_ms)
    else
      nothing_for[kind] = true
    end
  end)
end
