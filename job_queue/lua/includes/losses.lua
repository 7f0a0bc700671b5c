-- The story of the claims that a job lost. Needs includes/ending.lua.

-- Batches of events that are looked through for the last node.
local MOST_READ = 20

-- The node that a batch, as job_queue/events.py writes it, names last; nil if it names none.
local function last_node_of(batch)
  local head_end = string.find(batch, '\n', 1, true)
  local start = head_end + 1
  local node
  for _, event in ipairs(cjson.decode(string.sub(batch, 1, head_end - 1)).events) do
    local length, name = event[2], event[6]
    if name == 'executing' then
      node = cjson.decode(string.sub(batch, start, start + length - 1)).data.node
    end
    start = start + length
  end
  return type(node) == 'string' and node or nil
end

-- The node that a job had come to by the events that were kept, or ''.
local function last_node(job_id)
  local batches = redis.call('LRANGE', key('events', job_id), -MOST_READ, -1)
  for i = #batches, 1, -1 do
    local is_readable, node = pcall(last_node_of, batches[i])
    if is_readable and node then
      return node
    end
  end
  return ''
end

-- Note that a job lost its claim. Returns all its losses so far, the first one first: worker, time, last node.
local function note_loss(job_id, worker)
  local losses = cjson.decode(redis.call('HGET', key('job', job_id), 'losses') or '[]')
  losses[#losses + 1] = {worker = worker, at = now_ms(), node = last_node(job_id)}
  redis.call('HSET', key('job', job_id), 'losses', cjson.encode(losses), 'lost', #losses)
  return losses
end

-- End a job that no worker ends, as 'cancelled' or 'quarantined', with its story.
local function give_up(job_id, user, state, losses, history_size, history_ms)
  local story = {job = job_id, state = state, losses = losses, timestamp = now_ms()}
  end_job(job_id, user, state, cjson.encode({lost = story}), history_size, history_ms)
  publish_change(user)
  redis.call('PUBLISH', key('events'),
    cjson.encode({lost = story, user = user, client = redis.call('HGET', key('job', job_id), 'client')}) .. '\n')
end
