-- Policy `fifo`: the lowest number first, whoever's it is.

-- Every policy puts the people who wait at one level into the order in which they are to be served.
--   people       {user, number of the first job, user, number, ...} in the order of those numbers
--   first_lane   function(user): the lane of the person's first job that the worker can run and its number, or nothing
-- Returns function(): the next person and the lane of their job, or nothing. Whoever has nothing for the worker is left out.
local function order_fifo(people, first_lane)
  local found = {}
  local read = 1
  return function()
    -- People stand at the numbers of their first jobs; what the worker can run of theirs may come later.
    while read <= #people and not (found[1] and found[1][3] <= tonumber(people[read + 1])) do
      local lane, number = first_lane(people[read])
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
