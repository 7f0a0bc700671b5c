-- Take a worker that ends in good order out of the workshop; its unfinished job returns to the queue,
-- and this does not count as a loss. One that was to be cancelled ends with that.
--
-- KEYS[1]  prefix of the workshop
-- ARGV[1]  worker      ARGV[2]  instance
-- ARGV[3]  finished jobs kept for the user      ARGV[4]  milliseconds they are kept
--
-- Returns the id of the job that went back, or ''.
-- Invariant: only the process that holds the name can give it up.
-- @include keys
-- @include lanes
-- @include policy_fifo
-- @include policy_round_robin
-- @include policy_fair
-- @include memory
-- @include affinity
-- @include assign
-- @include allowance
-- @include ledger
-- @include ending
-- @include losses

local worker = ARGV[1]
local known = redis.call('HMGET', key('worker', worker), 'instance', 'job', 'claim')
if known[1] ~= ARGV[2] then
  return ''
end
proceed_when_full()
local returned = ''
if known[2] then
  local job = key('job', known[2])
  local fields = redis.call('HMGET', job, 'claim', 'state', 'user', 'cancel')
  if fields[1] == known[3] and (fields[2] == 'claimed' or fields[2] == 'running') then
    redis.call('HDEL', job, 'claim')
    refund(known[2])
    if fields[4] then
      give_up(known[2], fields[3], 'cancelled', note_loss(known[2], worker), tonumber(ARGV[3]), tonumber(ARGV[4]))
    else
      redis.call('DEL', key('lease', known[2]), key('events', known[2]))
      redis.call('SREM', key('running'), known[2])
      return_to_lane(known[2])
      publish_change(fields[3])
      returned = known[2]
    end
  end
end
redis.call('DEL', key('presence', worker), key('inbox', worker), key('worker', worker))
redis.call('HDEL', key('idle'), worker)
redis.call('SREM', key('workers'), worker)
redis.call('INCR', key('catalogue-version'))
redis.call('PUBLISH', key('events'), cjson.encode({workers = true}) .. '\n')
feed_idle_workers()
return returned
