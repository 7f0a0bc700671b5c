-- How much of a GPU's memory jobs need. Needs includes/lanes.lua.
--
-- The hash kind:<lane> holds, in bytes: `stated`, by a node of the graph; `memory`, learned from the runs so far;
-- `estimate`, from the model files that the graph names. The first of them that is there counts.

-- Bytes that a job of this lane needs; nil when nothing is known.
local function memory_of(lane)
  local _, _, _, stated, learned, estimate = kind_of(lane)
  return tonumber(stated or learned or estimate)
end

-- What a job of this lane needs if that is more than so many bytes; nil if it fits, as it does where nothing is known or
-- nobody counts (room '').
local function too_large(room, lane)
  local need = room ~= '' and memory_of(lane)
  return need and need > tonumber(room) and need or nil
end

-- Take the peak of a run into account: more counts at once, less bit by bit.
local function learn_memory(lane, peak)
  local known = tonumber(redis.call('HGET', key('kind', lane), 'memory'))
  local learned = known and peak < known and known + 0.1 * (peak - known) or peak
  redis.call('HSET', key('kind', lane), 'memory', string.format('%.0f', learned))
  kinds[lane] = nil
end
