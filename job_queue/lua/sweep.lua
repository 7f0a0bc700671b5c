-- Give back the jobs of lost workers, and forget the workers: they are shown as lost for a while, and have no part in
-- anything else. Any frontend may run it at any time.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  lost claims after which a job is quarantined
-- ARGV[2]  finished jobs kept for each user      ARGV[3]  milliseconds they are kept
-- ARGV[4]  milliseconds of a lease: for so long nobody is taken for lost after the store, or all frontends, were away
--
-- Returns {ids put back into the queue, ids quarantined}.
-- Invariant: a job is taken from a worker only when its lease has run out by the store's clock, and only after the store
-- was there for a whole lease: leases also run out while it is away or stands still, and then the workers come back
-- with their jobs.
-- @include keys
-- @include lanes
-- @include policy_fifo
-- @include policy_round_robin
-- @include policy_fair
-- @include memory
-- @include affinity
-- @include assign
-- @include allowance
-- @include ledger
-- @include ending
-- @include losses

-- Without a sweep for this long, or for half a lease, the store or all frontends were away. Frontends sweep ten times in a
-- lease, at least every second; a worker renews four times in one, so a quarter of it is left to renew after half is lost.
local AWAY_MS = 5000
-- For so long lost workers are shown, the last ones of them.
local LOST_MS, MOST_LOST = 600000, 50

-- What a live worker can run is kept as long as it lives, and 30 days longer.
local function keep_catalogue(digest)
  for _, name in ipairs({'catalogue', 'capabilities'}) do
    if redis.call('TTL', key(name, digest)) < 86400 * 29 then
      redis.call('EXPIRE', key(name, digest), 86400 * 30)
    end
  end
end

local now = now_ms()
local away_ms = math.min(AWAY_MS, tonumber(ARGV[4]) / 2)
local last = redis.call('GET', key('swept'))
if last and now - last > away_ms then
  proceed_when_full()
  redis.call('SET', key('grace'), '1', 'PX', ARGV[4])
end
-- Not each sweep is noted: a note is a write.
if not last or now - last > away_ms * 0.4 then
  proceed_when_full()
  redis.call('SET', key('swept'), now)
end
local is_grace = redis.call('EXISTS', key('grace')) == 1
forget_old_usage()

local requeued, quarantined = {}, {}
for _, job_id in ipairs(redis.call('SMEMBERS', key('running'))) do
  local is_lost = redis.call('EXISTS', key('lease', job_id)) == 0
  if is_lost and is_grace then
    -- Its worker may come back, unless a new process has come in its place already.
    is_lost = redis.call('SREM', key('orphans'), job_id) == 1
  end
  if is_lost then
    local job = key('job', job_id)
    local fields = redis.call('HMGET', job, 'user', 'claim', 'worker', 'cancel')
    local user, worker = fields[1], fields[3]
    proceed_when_full()
    release_worker(worker, fields[2])
    refund(job_id)
    redis.call('HDEL', job, 'claim')
    local losses = note_loss(job_id, worker)
    if fields[4] or #losses >= tonumber(ARGV[1]) then
      local state = fields[4] and 'cancelled' or 'quarantined'
      if state == 'quarantined' then
        quarantined[#quarantined + 1] = job_id
      end
      give_up(job_id, user, state, losses, tonumber(ARGV[2]), tonumber(ARGV[3]))
    else
      redis.call('SREM', key('running'), job_id)
      redis.call('DEL', key('events', job_id))
      return_to_lane(job_id)
      publish_change(user)
      requeued[#requeued + 1] = job_id
    end
  end
end
local gone = false
if not is_grace then
  redis.call('DEL', key('orphans'))
end
for _, worker in ipairs(is_grace and {} or redis.call('SMEMBERS', key('workers'))) do
  if redis.call('EXISTS', key('presence', worker)) == 1 then
    keep_catalogue(redis.call('HGET', key('worker', worker), 'catalogue'))
    redis.call('ZREM', key('lost'), worker)
  else
    proceed_when_full()
    redis.call('ZADD', key('lost'), now, worker)
    redis.call('EXPIRE', key('worker', worker), 86400)
    redis.call('SREM', key('workers'), worker)
    redis.call('HDEL', key('idle'), worker)
    gone = true
  end
end
redis.call('ZREMRANGEBYSCORE', key('lost'), '-inf', now - LOST_MS)
if gone then
  redis.call('ZREMRANGEBYRANK', key('lost'), 0, -MOST_LOST - 1)
  redis.call('INCR', key('catalogue-version'))
  redis.call('PUBLISH', key('events'), cjson.encode({workers = true}) .. '\n')
end
if redis.call('ZCARD', key('queued')) > 0 and redis.call('EXISTS', key('idle')) == 1 then
  -- Also for workers that left jobs to others which have the models: by now it may pay to load them.
  proceed_when_full()
  feed_idle_workers()
end
return {requeued, quarantined}
