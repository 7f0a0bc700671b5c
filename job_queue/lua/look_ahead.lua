-- All that decides who goes next, for a forecast.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  '' (nothing is asked for yet)
--
-- Returns JSON: {now, mode, paused, workers = {{name, left, reserved}}, lanes = {{level, user, duration, memory, workers,
-- jobs = {id, number, ...}, lacks}}, usage = {user = milliseconds}, turns = {user = microseconds}}. `left` is how many
-- milliseconds a worker's job is expected to take still, half of its time so far for one that is overdue; `workers` of a
-- lane names those that can run its jobs now; where none can, `lacks` is a need that the worker which comes closest does not
-- have, or 'memory'.
-- Invariant: one moment of the queue; reads only, but for what lane_fits remembers.
-- @include keys
-- @include lanes
-- @include policy_fifo
-- @include policy_round_robin
-- @include policy_fair
-- @include memory
-- @include affinity
-- @include assign

local now = now_ms()
local policy = redis.call('HMGET', key('policy'), 'mode', 'paused')
local workers, able = {}, {}
for _, name in ipairs(redis.call('SMEMBERS', key('workers'))) do
  local record = redis.call('HMGET', key('worker', name), 'catalogue', 'room', 'job', 'drained')
  if record[1] and not record[4] and redis.call('EXISTS', key('presence', name)) == 1 then
    local left = 0
    if record[3] then
      local job = redis.call('HMGET', key('job', record[3]), 'claimed', 'charged')
      local ran = now - (tonumber(job[1]) or now)
      left = (tonumber(job[2]) or 0) - ran
      if left < 0 then
        -- It takes longer than its kind was known to. Of such jobs nobody knows more than how long they have run.
        left = ran / 2
      end
    end
    workers[#workers + 1] = {name = name, left = left, reserved = reserved_for(name) or ''}
    able[name] = {catalogue = record[1], room = record[2] or ''}
  end
end

-- What keeps all workers from running a lane's jobs; nil where there is no worker.
local lacking = {}
local function lacks(lane)
  if lacking[lane] == nil then
    local least
    for _, can in pairs(able) do
      local missing = redis.call('SDIFF', key('needs', lane), key('capabilities', can.catalogue))
      if not least or #missing < #least then
        least = missing
      end
    end
    lacking[lane] = least and (least[1] or 'memory') or false
  end
  return lacking[lane] or nil
end

local lanes, usage, turns = {}, {}, {}
for _, level in ipairs(LEVELS) do
  for _, user in ipairs(redis.call('ZRANGE', key('people', level), 0, -1)) do
    usage[user] = 2 ^ ((tonumber(redis.call('ZSCORE', key('usage'), user)) or 0) - now / HALF_LIFE_MS)
    turns[user] = tonumber(redis.call('ZSCORE', key('turns'), user)) or 0
    for _, lane in ipairs(redis.call('ZRANGE', key('lanes', level .. ':' .. user), 0, -1)) do
      local fitting = {}
      for name, can in pairs(able) do
        if lane_fits(can, lane) then
          fitting[#fitting + 1] = name
        end
      end
      lanes[#lanes + 1] = {level = level, user = user,
        duration = tonumber(redis.call('HGET', key('kind', lane), 'duration') or USUAL_MS),
        memory = memory_of(lane), workers = fitting,
        lacks = #fitting == 0 and lacks(lane) or nil,
        jobs = redis.call('ZRANGE', key('lane', level .. ':' .. user .. ':' .. lane), 0, -1, 'WITHSCORES')}
    end
  end
end
return cjson.encode({now = now, mode = policy[1] or 'fair', paused = policy[2] == '1', workers = workers, lanes = lanes,
  usage = usage, turns = turns})
