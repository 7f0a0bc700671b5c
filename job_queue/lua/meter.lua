-- Count for how long each worker was there and files were kept, and how much was sent, and tell the sums.
-- Any frontend may run it at any time, and so may whoever wants to know.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  frontend: random id of its process, or '' for nobody who has sent or keeps anything
-- ARGV[2]  bytes that it has moved since its start, by their way, as JSON
-- ARGV[3]  the places where it keeps files, as JSON: MiB in each, or -1 where that was not measured anew
--
-- Returns JSON: {now, began, most, sums = {name: count}, here = {{worker, price}}, kept = {place: MiB}}. Times are
-- milliseconds; `began` is when it ran first, `most` how many workers were there at once, `price` what an hour of one
-- costs, or ''. Sums are `worker:PRICE:NAME` in milliseconds, `place:NAME` in MiB times milliseconds, `bytes:WAY`.
-- Invariant: each millisecond and each byte counts once, however many frontends ask, and however often. Time between two
-- looks counts for a worker whose same process was there at both, and for a place that somebody named at both.
-- @include keys

-- For so long it is remembered up to where something was counted, and for so long files are there that nobody names.
local KEEP_MS, THERE_MS = 30 * 86400000, 86400000

local now = now_ms()
local sums = key('meter')
local metered = key('metered')

-- Up to where each thing was counted: {at = milliseconds, ...}.
local marks = {}
local rows = redis.call('HGETALL', metered)
for i = 1, #rows, 2 do
  marks[rows[i]] = cjson.decode(rows[i + 1])
end

local function add(name, amount)
  if amount > 0 then
    redis.call('HINCRBY', sums, name, string.format('%.0f', amount))
  end
end

local function mark(name, value)
  value.at = now
  marks[name] = value
  redis.call('HSET', metered, name, cjson.encode(value))
end

local here = {}
for _, worker in ipairs(redis.call('SMEMBERS', key('workers'))) do
  local instance = redis.call('GET', key('presence', worker))
  if instance then
    local price = redis.call('HGET', key('worker', worker), 'price') or ''
    local last = marks['worker:' .. worker]
    if last and last.instance == instance then
      add('worker:' .. price .. ':' .. worker, now - last.at)
    end
    mark('worker:' .. worker, {instance = instance})
    here[#here + 1] = {worker, price}
  end
end

local known = redis.call('HMGET', sums, 'began', 'most')
if not known[1] then
  redis.call('HSET', sums, 'began', now)
end
if #here > tonumber(known[2] or 0) then
  redis.call('HSET', sums, 'most', #here)
end

if ARGV[1] ~= '' then
  local name = 'frontend:' .. ARGV[1]
  local moved = cjson.decode(ARGV[2])
  local last = marks[name] or {}
  for way, bytes in pairs(moved) do
    add('bytes:' .. way, bytes - (last[way] or 0))
  end
  mark(name, moved)
  for place, size in pairs(cjson.decode(ARGV[3])) do
    last = marks['place:' .. place]
    if last then
      add('place:' .. place, last.size * (now - last.at))
    end
    if last or size >= 0 then
      mark('place:' .. place, {size = size >= 0 and size or last.size})
    end
  end
end

local kept = {}
for name, last in pairs(marks) do
  local place = string.match(name, '^place:(.*)$')
  if place and now - last.at < THERE_MS then
    kept[place] = last.size
  end
  if now - last.at > KEEP_MS then
    redis.call('HDEL', metered, name)
  end
end

local told = {now = now, began = tonumber(known[1] or now), most = math.max(#here, tonumber(known[2] or 0)),
  sums = {}, here = here, kept = kept}
rows = redis.call('HGETALL', sums)
for i = 1, #rows, 2 do
  told.sums[rows[i]] = rows[i + 1]
end
return cjson.encode(told)
