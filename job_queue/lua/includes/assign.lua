-- Choosing a job for a worker and binding it to a claim. Needs includes/keys.lua.

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

-- The id of the first queued job that this catalogue can run, and its lane; the lower number first.
local function first_job(catalogue)
  for _, lane in ipairs(redis.call('ZRANGE', key('lanes'), 0, -1)) do
    if lane_fits(catalogue, lane) then
      return redis.call('ZRANGE', key('lane', lane), 0, 0)[1], lane
    end
  end
end

-- Invariant: the lanes stand in the order of their first jobs, and a lane without a job is not among them.
local function place_lane(lane)
  local head = redis.call('ZRANGE', key('lane', lane), 0, 0, 'WITHSCORES')
  if head[1] then
    redis.call('ZADD', key('lanes'), head[2], lane)
  else
    redis.call('ZREM', key('lanes'), lane)
  end
end

local function leave_lane(job_id, lane)
  redis.call('ZREM', key('lane', lane), job_id)
  place_lane(lane)
end

local function enter_lane(job_id, lane, score)
  redis.call('ZADD', key('lane', lane), score, job_id)
  redis.call('EXPIRE', key('needs', lane), 60 * 60 * 24 * 90)
  place_lane(lane)
end

-- What a worker is told of a job: the fields it needs to run it.
local function job_for_worker(job_id)
  local job = redis.call('HMGET', key('job', job_id), 'user', 'number', 'payload', 'secrets', 'envelope', 'attempt', 'claim')
  return {job_id, unpack(job)}
end

-- Bind a job that stands in no lane to a worker's claim. Returns the job for the worker.
-- Invariant: a job has at most one claim, and the lease key exists from the moment the claim does.
local function bind(job_id, worker, claim, lease_ms)
  local job = key('job', job_id)
  redis.call('HINCRBY', job, 'attempt', 1)
  redis.call('HSET', job, 'state', 'claimed', 'claim', claim, 'worker', worker, 'claimed', now_ms())
  redis.call('SADD', key('running'), job_id)
  redis.call('SET', key('lease', job_id), claim, 'PX', lease_ms)
  redis.call('HSET', key('worker', worker), 'claim', claim, 'job', job_id)
  redis.call('HDEL', key('idle'), worker)
  local told = job_for_worker(job_id)
  publish_change(told[2])
  return told
end

-- Bind the worker's best job to its claim. Returns the job for the worker, or nil when nothing fits it.
local function assign(worker, claim, catalogue, lease_ms)
  local job_id, lane = first_job(catalogue)
  if job_id then
    leave_lane(job_id, lane)
    return bind(job_id, worker, claim, lease_ms)
  end
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

-- Hand a new job to a worker that waits for one; true if there is one that can run it. A worker waits only while nothing
-- in the lanes fits it, so the job overtakes none.
local function hand_over(job_id, lane)
  return each_idle_worker(function(worker, request)
    if lane_fits(request.catalogue, lane) then
      put_in_inbox(worker, bind(job_id, worker, request.claim, request.lease_ms), request.lease_ms)
      return true
    end
  end)
end

-- Hand queued jobs to the workers that wait for one.
local function feed_idle_workers()
  local nothing_for = {}
  each_idle_worker(function(worker, request)
    local catalogue = request.catalogue
    local job = not nothing_for[catalogue] and assign(worker, request.claim, catalogue, request.lease_ms)
    if job then
      put_in_inbox(worker, job, request.lease_ms)
    else
      nothing_for[catalogue] = true
    end
  end)
end
