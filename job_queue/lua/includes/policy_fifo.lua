-- Policy `fifo`: the lowest number first, whoever's it is.

-- Every policy puts the people who wait at one level into the order in which they are to be served.
--   level        at which they wait
--   first_lane   whom to ask for the lane of a person's first job that the worker can run; see includes/assign.lua
-- Returns function(): the next person and the lane of their job, or nothing. Whoever has nothing for the worker is left out.

-- So many people's first lanes are looked up in one go.
local LOOKED_UP = 100

local function order_fifo(level, first_lane)
  -- {user, number of the first job, user, number, ...} in the order of those numbers
  local people = redis.call('ZRANGE', key('people', level), 0, -1, 'WITHSCORES')
  local found = {}
  local read, foreseen = 1, 0
  return function()
    -- People stand at the numbers of their first jobs; what the worker can run of theirs may come later.
    while read <= #people and not (found[1] and found[1][3] <= tonumber(people[read + 1])) do
      if read > foreseen then
        local soon = {}
        for i = read, math.min(read + 2 * LOOKED_UP - 2, #people - 1), 2 do
          soon[#soon + 1] = people[i]
        end
        foreseen = read + 2 * LOOKED_UP - 2
        first_lane.foresee(soon)
      end
      local lane, number = first_lane.of(people[read], tonumber(people[read + 1]))
      if lane then
        found[#found + 1] = {people[read], lane, number}
        table.sort(found, function(a, b)
          return a[3] < b[3]
        end)
      end
      read = read + 2
    end
    local best = table.remove(found, 1)
    if best then
      return best[1], best[2]
    end
  end
end
