-- Policy `round_robin`: the person who was served longest ago goes next. See includes/policy_fifo.lua.

-- Members of a sorted set that people's names are looked up in at once; unpack() takes a few thousand at most.
local AT_ONCE = 1000

-- The people of a level in the order of the scores that `look_up(users)` gives; who has none goes first, and among equals
-- the first job decides.
local function in_order(people, look_up)
  local entries, users = {}, {}
  for i = 1, #people, 2 do
    users[#users + 1] = people[i]
    if #users == AT_ONCE or i + 2 > #people then
      for n, score in ipairs(look_up(users)) do
        entries[#entries + 1] = {users[n], tonumber(score or '-inf'), #entries}
      end
      users = {}
    end
  end
  table.sort(entries, function(a, b)
    if a[2] == b[2] then
      return a[3] < b[3]
    end
    return a[2] < b[2]
  end)
  return entries
end

local function those_with_a_lane(entries, first_lane)
  local read = 0
  return function()
    while read < #entries do
      read = read + 1
      local lane = first_lane(entries[read][1])
      if lane then
        return entries[read][1], lane
      end
    end
  end
end

-- Note that a person is served.
local function take_turn(user)
  redis.call('ZADD', key('turns'), now_us(), user)
end

local function order_round_robin(people, first_lane)
  local entries = in_order(people, function(users)
    return redis.call('ZMSCORE', key('turns'), unpack(users))
  end)
  return those_with_a_lane(entries, first_lane)
end
