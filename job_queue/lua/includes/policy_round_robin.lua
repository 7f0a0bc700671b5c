-- Policy `round_robin`: the person who was served longest ago goes next. See includes/policy_fifo.lua.

-- The people of a level in the order of their scores in a sorted set, for which the store needs no number to be written
-- out; who has none there goes first, by the first job.
local function people_by(level, scores)
  local users = redis.call('ZDIFF', 2, key('people', level), key(scores))
  for _, user in ipairs(redis.call('ZINTER', 2, key('people', level), key(scores), 'WEIGHTS', 0, 1)) do
    users[#users + 1] = user
  end
  return users
end

-- Those of some people who have a job for the worker, one after the other. `piece` is for how many are looked at first.
local function those_with_a_lane(users, first_lane, piece)
  local read, foreseen = 0, 0
  return function()
    while read < #users do
      read = read + 1
      if read > foreseen then
        piece = piece or larger_piece()
        foreseen = math.min(read + piece - 1, #users)
        piece = larger_piece(piece)
        first_lane.foresee({unpack(users, read, foreseen)})
      end
      local lane = first_lane.of(users[read])
      if lane then
        return users[read], lane
      end
    end
  end
end

-- Note that a person is served. One script may serve several, one after the other though its clock stands still.
local turns_taken = 0
local function take_turn(user)
  redis.call('ZADD', key('turns'), now_us() + turns_taken, user)
  turns_taken = turns_taken + 1
end

local function order_round_robin(level, first_lane)
  return those_with_a_lane(people_by(level, 'turns'), first_lane)
end
