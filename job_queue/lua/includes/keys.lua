-- Key names of a workshop; the same as job_queue/keys.py. KEYS[1] is the workshop's prefix.
local prefix = KEYS[1]
local function key(name, id)
  if id then
    return prefix .. name .. ':' .. id
  end
  return prefix .. name
end

-- Microseconds by the store's own clock, so that no machine's clock matters. It stands still while a script runs.
local asked_at
local function now_us()
  if not asked_at then
    local time = redis.call('TIME')
    asked_at = time[1] * 1000000 + time[2]
  end
  return asked_at
end

local function now_ms()
  return math.floor(now_us() / 1000)
end

-- Let a script go on that finds the store full. Redis refuses a script for lack of memory at its first write alone, never
-- half way, and this write needs no memory. For what makes room in the end, or must not be lost; submit has none.
local has_written = false
local function proceed_when_full()
  if not has_written then
    redis.call('DEL', key('nothing'))
    has_written = true
  end
end

-- Tell the frontends that what a person sees in the queue has changed.
local function publish_change(user)
  redis.call('PUBLISH', key('events'), cjson.encode({changed = user}) .. '\n')
end
