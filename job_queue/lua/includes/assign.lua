-- Choosing a job for a worker and binding it to a claim. Needs includes/lanes.lua, the policies and
-- includes/affinity.lua.

local POLICIES = {fifo = order_fifo, round_robin = order_round_robin, fair = order_fair}
-- A level at which people wait gets a job at least this often, whatever goes on at the levels above.
local PATIENCE_MS = 600000

-- Whether each catalogue offers what the jobs of each lane need, as far as this script has asked.
local fits = {}

-- The answer for a pair never changes, since both are named by their content, so the store remembers it too.
local function catalogue_fits(catalogue, lane)
  local known = fits[catalogue] and fits[catalogue][lane]
  if known == nil then
    local memo = key('fits', catalogue)
    local stored = redis.call('HGET', memo, lane)
    known = stored == '1'
    if not stored then
      known = #redis.call('SDIFF', key('needs', lane), key('capabilities', catalogue)) == 0
      redis.call('HSET', memo, lane, known and '1' or '0')
      if redis.call('TTL', memo) < 0 then
        -- Not put off by further lanes, so that it holds the lanes of one day at most.
        redis.call('EXPIRE', memo, 86400)
      end
    end
    fits[catalogue] = fits[catalogue] or {}
    fits[catalogue][lane] = known
  end
  return known
end

-- Take what the store remembers of a catalogue and some lanes in one go.
local function recall_fits(catalogue, lanes)
  fits[catalogue] = fits[catalogue] or {}
  local memo, unknown = fits[catalogue], {}
  for _, lane in ipairs(lanes) do
    if lane and memo[lane] == nil and not unknown[lane] then
      unknown[lane] = true
      unknown[#unknown + 1] = lane
    end
  end
  if #unknown > 1 then
    for i, stored in ipairs(redis.call('HMGET', key('fits', catalogue), unpack(unknown))) do
      if stored then
        memo[unknown[i]] = stored == '1'
      end
    end
  end
end

-- The least that a job needs which a worker could run if more of its memory were free; nil when there is none.
local least_short

-- Whether a worker can run the jobs of a lane. `can` is what it has: {catalogue = digest, room = bytes or ''}.
local function lane_fits(can, lane)
  if not catalogue_fits(can.catalogue, lane) then
    return false
  end
  local need = too_large(can.room, lane)
  if need then
    least_short = math.min(least_short or need, need)
  end
  return not need
end

-- Who asks a level for the lanes of people's first jobs that a worker can run, in the order of a policy.
--   foresee(users)         tells of people who will be asked for soon: one look at them all
--   of(user, number)       the lane and the number of the person's job, or nothing; `number` is that of their first one,
--                          for a policy that wants to know
local function first_lanes(level, can)
  local heads, fitting = {}, {}
  local function fits_here(lane)
    if fitting[lane] == nil then
      fitting[lane] = lane_fits(can, lane)
    end
    return fitting[lane]
  end
  local function foresee(users)
    local found = redis.call('HMGET', key('heads', level), unpack(users))
    recall_fits(can.catalogue, found)
    for i, user in ipairs(users) do
      heads[user] = found[i]
    end
  end
  local function of(user, number)
    local head = heads[user]
    if head and fits_here(head) then
      return head, number
    end
    local lanes = redis.call('ZRANGE', key('lanes', level .. ':' .. user), 0, -1, 'WITHSCORES')
    for i = 1, #lanes, 2 do
      if fits_here(lanes[i]) then
        return lanes[i], tonumber(lanes[i + 1])
      end
    end
  end
  return {foresee = foresee, of = of}
end

-- The levels in the order in which they are looked at: those that have waited too long come before their turn.
local function levels_in_order()
  local used = used_levels()
  if #used < 2 then
    return used
  end
  local served = redis.call('HMGET', key('served'), unpack(used))
  local due, others = {}, {}
  for i, level in ipairs(used) do
    local waits = level ~= 'front' and served[i] and now_ms() - served[i] > PATIENCE_MS
    local list = waits and due or others
    list[#list + 1] = level
  end
  for _, level in ipairs(others) do
    due[#due + 1] = level
  end
  return due
end

-- The queued job that a worker is to run: its level, person and lane, or nothing.
-- `can` is what the worker has; `only` the one person that it is reserved for, or nil; `mode` names the policy.
local function choose(worker, can, only, mode)
  for _, level in ipairs(levels_in_order()) do
    local lanes = first_lanes(level, can)
    local next_person
    if only then
      next_person = those_with_a_lane({only}, lanes)
    else
      -- Ahead of all is ahead of all, also under another policy.
      next_person = (level == 'front' and order_fifo or POLICIES[mode])(level, lanes)
    end
    local user, lane
    if level == 'front' or only then
      user, lane = next_person()
    else
      user, lane = prefer_loaded(next_person, worker, level)
    end
    if user then
      redis.call('HSET', key('served'), level, now_ms())
      return level, user, lane
    end
  end
end

-- What a worker is told of a job: the fields it needs to run it, and the bytes that it is taken to need.
local function job_for_worker(job_id, memory)
  local job = redis.call('HMGET', key('job', job_id), 'user', 'number', 'payload', 'secrets', 'envelope', 'attempt', 'claim')
  job[8] = memory or ''
  return {job_id, unpack(job)}
end

-- Bind a job that stands in no lane to a worker's claim. Returns the job for the worker.
-- Invariant: a job has at most one claim, and the lease key exists from the moment the claim does.
local function bind(job_id, user, lane, worker, claim, lease_ms)
  local models, duration, _, stated, learned, estimate = kind_of(lane)
  local expected = tonumber(duration or USUAL_MS)
  local told = job_for_worker(job_id, stated or learned or estimate)
  told[7], told[8] = tostring(told[7] + 1), claim
  local loads = models and redis.call('HGET', key('worker', worker), 'loaded') ~= models
  redis.call('HSET', key('job', job_id), 'state', 'claimed', 'claim', claim, 'worker', worker, 'claimed', now_ms(),
    'attempt', told[7], 'charged', expected, 'loads', loads and '1' or '')
  redis.call('SADD', key('running'), job_id)
  redis.call('SET', key('lease', job_id), claim, 'PX', lease_ms)
  if loads then
    redis.call('HSET', key('worker', worker), 'claim', claim, 'job', job_id, 'loaded', models, 'loaded_since', now_ms())
  else
    redis.call('HSET', key('worker', worker), 'claim', claim, 'job', job_id)
  end
  redis.call('HDEL', key('idle'), worker)
  -- Now and not at the end, or one person would get all the workers at once.
  charge(user, expected)
  take_turn(user)
  publish_change(user)
  return told
end

-- What a person was charged for a job that did not run to its end.
local function refund(job_id)
  local fields = redis.call('HMGET', key('job', job_id), 'user', 'charged')
  charge(fields[1], -(fields[2] or 0))
end

local function reserved_for(worker)
  return redis.call('HGET', key('reserved'), worker) or nil
end

-- Bind the worker's best job to its claim. Returns the job for the worker, or nil when nothing fits it.
local function assign(worker, claim, can, lease_ms)
  if redis.call('ZCARD', key('queued')) == 0 then
    return nil
  end
  local policy = redis.call('HMGET', key('policy'), 'mode', 'paused')
  if policy[2] == '1' then
    return nil
  end
  local level, user, lane = choose(worker, can, reserved_for(worker), policy[1] or 'fair')
  if not level then
    return nil
  end
  local job_id = redis.call('ZRANGE', key('lane', level .. ':' .. user .. ':' .. lane), 0, 0)[1]
  leave_lane(job_id, level, user, lane)
  redis.call('HDEL', key('passed'), level .. ':' .. user .. ':' .. lane)
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

-- Hand a new job to a worker that waits for one; true if there is one that may run it and had better not leave it to
-- another. Only for a time when no job is queued, so that it overtakes none.
local function hand_over(job_id, user, lane, models)
  local chosen, chosen_request
  each_idle_worker(function(worker, request)
    local only = reserved_for(worker)
    if (only and only ~= user) or not lane_fits(request, lane) then
      return false
    end
    if not chosen then
      chosen, chosen_request = worker, request
    end
    if models == '' then
      return true
    end
    if redis.call('HGET', key('worker', worker), 'loaded') == models then
      chosen, chosen_request = worker, request
      return true
    end
    return false
  end)
  if not chosen or (models ~= '' and better_elsewhere(chosen, lane)) then
    return false
  end
  local job = bind(job_id, user, lane, chosen, chosen_request.claim, chosen_request.lease_ms)
  put_in_inbox(chosen, job, chosen_request.lease_ms)
  return true
end

-- Hand queued jobs to the workers that wait for one.
local function feed_idle_workers()
  local nothing_for = {}
  each_idle_worker(function(worker, request)
    local kind = table.concat({request.catalogue, request.room, reserved_for(worker) or '',
      redis.call('HGET', key('worker', worker), 'loaded') or ''}, ' ')
    local job = not nothing_for[kind] and assign(worker, request.claim, request, request.lease_ms)
    if job then
      put_in_inbox(worker, job, request.lease_ms)
    else
      nothing_for[kind] = true
    end
  end)
end
