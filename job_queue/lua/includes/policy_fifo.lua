-- Policy `fifo`: the lowest number first, whoever's it is.

-- Every policy picks among the people who wait at one level.
--   people       {user, number of the first job, user, number, ...} in the order of those numbers
--   first_lane   function(user): the lane of the person's first job that the worker can run and its number, or nothing
-- Returns the person and the lane, or nothing.
local function pick_fifo(people, first_lane)
  local best_user, best_lane, best_number
  for i = 1, #people, 2 do
    if best_number and tonumber(people[i + 1]) >= best_number then
      break
    end
    local lane, number = first_lane(people[i])
    if lane and (not best_number or number < best_number) then
      best_user, best_lane, best_number = people[i], lane, number
    end
  end
  return best_user, best_lane
end
