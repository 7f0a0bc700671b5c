-- Which models a worker is to go on with. Needs includes/keys.lua and includes/policy_fair.lua.
--
-- Loading models can take longer than a job. So a worker goes on with those that it has, passes over people whose turn it
-- is, and notes since when (`passed`). It loads others
--   when people whose jobs need them were passed over long enough: each of the other models that people wait for gets its
--   share of the time for which anybody may be passed over; or
--   when nobody waits for its own, and then at once, or if another worker has the others loaded when waiting for that one
--   has cost more than loading them a second time.

-- For so long somebody may be passed over, unless the policy says otherwise.
local USUAL_AFFINITY_MS = 1200000
-- Among so many people jobs for the loaded models are looked for.
local MOST_LOOKED_AT = 100
-- Models that other workers have are loaded once people have waited for each of those so many times as long as loading
-- takes. Of more than two each further one counts for nothing: the more there are, the sooner one should have been free.
local LOADS_WAITED = 6
local MOST_WAITED_FOR = 2
-- Loading that takes less time is not worth waiting for another worker.
local SHORT_LOAD_MS = 1000

-- How many other workers that take anybody's jobs have each of the models loaded.
local function loaded_elsewhere(worker)
  local holders = {}
  for _, other in ipairs(redis.call('SMEMBERS', key('workers'))) do
    local has = redis.call('HMGET', key('worker', other), 'loaded', 'drained')
    if other ~= worker and has[1] and not has[2] and redis.call('HEXISTS', key('reserved'), other) == 0
      and redis.call('EXISTS', key('presence', other)) == 1 then
      holders[has[1]] = (holders[has[1]] or 0) + 1
    end
  end
  return holders
end

local function affinity_ms()
  return tonumber(redis.call('HGET', key('policy'), 'affinity_ms') or USUAL_AFFINITY_MS)
end

-- Whether a new job, for which nobody has waited yet, is left to another worker that has its models.
local function better_elsewhere(worker, lane)
  local loaded = redis.call('HGET', key('worker', worker), 'loaded')
  local models, _, load = kind_of(lane)
  return affinity_ms() > 0 and loaded and models and loaded ~= models and tonumber(load or 0) >= SHORT_LOAD_MS
    and loaded_elsewhere(worker)[models] ~= nil
end

-- The first people in the order of the policy, beginning with the one who is known already: {user, lane, kind = {models,
-- work = milliseconds of such a job, load = milliseconds to load its models}, passed = for how long they were passed over,
-- or nil}.
local function first_people(level, user, lane, next_person)
  local people, places, known = {}, {}, {}
  while user and #people < MOST_LOOKED_AT do
    local kind = known[lane]
    if not kind then
      local models, duration, load = kind_of(lane)
      kind = {models = models or '', work = tonumber(duration or USUAL_MS), load = tonumber(load or 0)}
      known[lane] = kind
    end
    local place = level .. ':' .. user .. ':' .. lane
    places[#places + 1] = place
    people[#places] = {user = user, lane = lane, place = place, kind = kind}
    user, lane = next_person()
  end
  local now = now_ms()
  for i, since in ipairs(redis.call('HMGET', key('passed'), unpack(places))) do
    if since then
      people[i].passed = now - since
    end
  end
  return people
end

-- Of those who wait for one group of models: the one who was passed over longest, else the first in turn.
local function longest_passed(people)
  local longest, most = people[1], people[1].passed or 0
  for i = 2, #people do
    local passed = people[i].passed
    if passed and passed > most then
      longest, most = people[i], passed
    end
  end
  return longest
end

-- The person for whom a worker is to load other models, when nobody waits for its own: of those models the ones for which
-- most is waiting, by the work and by the time passed, shared with the workers that have them; nil when it had better wait.
local function worth_loading(groups, worker, patience)
  local elsewhere = loaded_elsewhere(worker)
  local best, most
  for _, group in ipairs(groups) do
    local others = elsewhere[group.models] or 0
    local work, waited, load = 0, 0, 0
    for _, person in ipairs(group.people) do
      work = work + person.kind.work
      waited = waited + (person.passed or 0)
      load = math.max(load, person.kind.load)
    end
    local first = longest_passed(group.people)
    local pays = load < SHORT_LOAD_MS or waited >= LOADS_WAITED * math.min(others, MOST_WAITED_FOR) * load
      or (first.passed or 0) >= patience
    local waiting = (work + waited) / (1 + others)
    if pays and (not most or waiting > most) then
      best, most = group.people[1], waiting
    end
  end
  return best
end

-- The person whose job a worker takes, or nil if it had better wait. `has` is what it has loaded, and since when.
local function weigh(people, worker, has, patience)
  local own, groups, group_of = {}, {}, {}
  for _, person in ipairs(people) do
    local models = person.kind.models
    if models == has[1] or models == '' then
      own[#own + 1] = person
    else
      local group = group_of[models]
      if not group then
        group = {models = models, people = {}}
        group_of[models] = group
        groups[#groups + 1] = group
      end
      group.people[#group.people + 1] = person
    end
  end
  if #own == 0 then
    return worth_loading(groups, worker, patience)
  end
  local mine = longest_passed(own)
  local loaded_for = now_ms() - tonumber(has[2] or 0)
  if #groups == 0 or (mine.passed and mine.passed >= loaded_for) then
    -- Whoever was passed over before these models were loaded has waited for them.
    return mine
  end
  local longest
  for _, group in ipairs(groups) do
    local person = longest_passed(group.people)
    if not longest or (person.passed or 0) > (longest.passed or 0) then
      longest = person
    end
  end
  if longest.passed and math.min(longest.passed, loaded_for) >= patience / #groups then
    return group_of[longest.kind.models].people[1]
  end
  return mine
end

-- Of the people in the order of the policy the one whose job a worker takes, and its lane; nothing if it had better wait.
-- Invariant: whoever is passed over has it noted, so the wait has an end.
local function prefer_loaded(next_person, worker, level)
  local user, lane = next_person()
  if not user then
    return nil
  end
  local has = redis.call('HMGET', key('worker', worker), 'loaded', 'loaded_since')
  local patience = affinity_ms()
  if patience == 0 or not has[1] or not kind_of(lane) then
    return user, lane
  end
  local people = first_people(level, user, lane, next_person)
  local chosen = weigh(people, worker, has, patience)
  local passed = {}
  for _, person in ipairs(people) do
    if person == chosen then
      break
    end
    if not person.passed then
      passed[#passed + 1] = person.place
      passed[#passed + 1] = now_ms()
    end
  end
  if #passed > 0 then
    redis.call('HSET', key('passed'), unpack(passed))
  end
  if chosen then
    return chosen.user, chosen.lane
  end
end
