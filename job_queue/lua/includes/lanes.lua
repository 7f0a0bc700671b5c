-- Where queued jobs stand. Needs includes/keys.lua.
--
-- Jobs with the same needs share a lane, so whether a worker can run them is worked out once for all of them. A person has
-- lanes at each level, the instructor's priority. What stands where:
--   people:<level>               who has jobs at a level, each at the rank of their first job there
--   order:<level>                the same people by what they used; see includes/policy_fair.lua
--   heads:<level>                a hash: the lane of that job, by person
--   lanes:<level>:<user>         a person's lanes at a level, each at the rank of its first job
--   lane:<level>:<user>:<lane>   the jobs of a lane, by rank: the number they were submitted with, or their place at the front
--   queued                       every queued job, held ones too, by the time of its submit

-- The first goes first; 'front' is where an instructor moves a job ahead of all.
local LEVELS = {'front', '0', '1', '2', '3'}
local USUAL_LEVEL = '2'

-- What is known of the jobs of a lane, from the hash kind:<lane>, read once: {models, duration, load, stated, memory,
-- estimate}, false for what is not known. The last three are in bytes, see includes/memory.lua.
local kinds = {}

local function kind_of(lane)
  local kind = kinds[lane]
  if not kind then
    kind = redis.call('HMGET', key('kind', lane), 'models', 'duration', 'load', 'stated', 'memory', 'estimate')
    kinds[lane] = kind
  end
  return kind[1], kind[2], kind[3], kind[4], kind[5], kind[6]
end

-- The levels at which people wait, as far as this script knows.
local levels_in_use
local function used_levels()
  if not levels_in_use then
    levels_in_use = {}
    -- Mostly nobody waits, so that is asked first, of all levels at once.
    if redis.call('ZCARD', key('queued')) > 0 then
      for _, level in ipairs(LEVELS) do
        if redis.call('EXISTS', key('people', level)) == 1 then
          levels_in_use[#levels_in_use + 1] = level
        end
      end
    end
  end
  return levels_in_use
end

-- Those who used nothing lately stand before all others, by their first job; see includes/policy_fair.lua.
local UNUSED, LARGEST_NUMBER = -1e15, 1e14

local function place_by_usage(level, user, rank)
  local used = redis.call('ZSCORE', key('usage'), user)
    or string.format('%.17g', UNUSED + math.max(-LARGEST_NUMBER, math.min(LARGEST_NUMBER, tonumber(rank))))
  redis.call('ZADD', key('order', level), used, user)
end

-- Invariant: each list stands in the one above it at the rank of its first entry, and an empty one does not.
local function place_lane(level, user, lane)
  local mine = level .. ':' .. user
  local head = redis.call('ZRANGE', key('lane', mine .. ':' .. lane), 0, 0, 'WITHSCORES')
  if head[1] then
    redis.call('ZADD', key('lanes', mine), head[2], lane)
  else
    redis.call('ZREM', key('lanes', mine), lane)
    redis.call('HDEL', key('passed'), mine .. ':' .. lane)
  end
  head = redis.call('ZRANGE', key('lanes', mine), 0, 0, 'WITHSCORES')
  if head[1] then
    redis.call('ZADD', key('people', level), head[2], user)
    redis.call('HSET', key('heads', level), user, head[1])
    place_by_usage(level, user, head[2])
  else
    redis.call('ZREM', key('people', level), user)
    redis.call('ZREM', key('order', level), user)
    redis.call('HDEL', key('heads', level), user)
  end
end

local function leave_lane(job_id, level, user, lane)
  redis.call('ZREM', key('lane', level .. ':' .. user .. ':' .. lane), job_id)
  place_lane(level, user, lane)
end

local function enter_lane(job_id, level, user, lane, rank)
  if redis.call('EXISTS', key('people', level)) == 0 then
    -- A level's patience begins when somebody waits at it.
    redis.call('HSET', key('served'), level, now_ms())
    levels_in_use = nil
  end
  redis.call('ZADD', key('lane', level .. ':' .. user .. ':' .. lane), rank, job_id)
  place_lane(level, user, lane)
end

local function rank_of(job_id)
  local job = redis.call('HMGET', key('job', job_id), 'rank', 'number')
  return job[1] or job[2]
end

-- A claimed job that lost its worker stands where it stood.
local function return_to_lane(job_id)
  local job = redis.call('HMGET', key('job', job_id), 'level', 'user', 'lane', 'submitted')
  redis.call('HSET', key('job', job_id), 'state', 'queued')
  redis.call('ZADD', key('queued'), job[4], job_id)
  enter_lane(job_id, job[1], job[2], job[3], rank_of(job_id))
end
