-- A function for the scripts that send chunks of a durable job. It is not a script itself:
-- scripts.load puts it, and push.lua, in front of theirs.
--
-- feed puts messages of a job on its queue, in order, and stores the number of the next chunk.
--   record       key of the job's record
--   messages     key of the job's messages
--   queue        name of the queue
--   min_flight   send while fewer chunks of the job are sent and not answered
--   max_waiting  send while fewer chunks, of any job, wait on the queue
--   queue_ttl    seconds that the queue lives at least; longer if the job does
--
-- It reads no KEYS and no ARGV, and returns nothing. The script that calls it is one step, so no
-- other answer can send the same chunks.

local function feed(record, messages, queue, min_flight, max_waiting, queue_ttl)
  local found = redis.call('HMGET', record, 'state', 'next', 'chunks')
  if found[1] ~= 'active' then
    return
  end
  local next, chunks = tonumber(found[2]), tonumber(found[3])
  local flight = next - (chunks - redis.call('HLEN', messages))
  local waiting = redis.call('LLEN', queue)
  local seconds = math.max(tonumber(queue_ttl), redis.call('TTL', record))
  while next < chunks and (flight < tonumber(min_flight) or waiting < tonumber(max_waiting)) do
    local message = redis.call('HGET', messages, next)
    if message then
      waiting = push(queue, message, seconds)
      flight = flight + 1
    end
    next = next + 1
  end
  redis.call('HSET', record, 'next', next)
end
