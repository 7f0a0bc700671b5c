-- Policy `fifo`: the lowest number first, whoever's it is.

-- Every policy puts the people who wait at one level into the order in which they are to be served.
--   level        at which they wait
--   first_lane   whom to ask for the lane of a person's first job that the worker can run; see includes/assign.lua
-- Returns function(): the next person and the lane of their job, or nothing. Whoever has nothing for the worker is left out.

-- How many people are looked at in one go: a few at first, since mostly one of them is served.
local function larger_piece(piece)
  return piece and math.min(5 * piece, 100) or 5
end

local function order_fifo(level, first_lane)
  -- {user, number of the first job, user, number, ...} in the order of those numbers
  local people = redis.call('ZRANGE', key('people', level), 0, -1, 'WITHSCORES')
  local found = {}
  local read, foreseen, piece = 1, 0, nil
  return function()
    -- People stand at the numbers of their first jobs; what the worker can run of theirs may come later.
    while read <= #people and not (found[1] and found[1][3] <= tonumber(people[read + 1])) do
      if read > foreseen then
        local soon = {}
        piece = larger_piece(piece)
        foreseen = read + 2 * piece - 2
        for i = read, math.min(foreseen, #people - 1), 2 do
          soon[#soon + 1] = people[i]
        end
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
