-- A function for the scripts that end a durable job. It is not a script itself: scripts.load puts
-- it in front of theirs.
--
-- withdraw takes the waiting messages of a job off its queue. Only a job that was sent and has
-- messages has any; a message that a worker has taken is not affected.
--   record    key of the job's record
--   messages  key of the job's messages
--   queue     name of the queue
--
-- It reads no KEYS and no ARGV, and returns nothing.

local function withdraw(record, messages, queue)
  local found = redis.call('HMGET', record, 'next', 'chunks')
  local next, chunks = tonumber(found[1]), tonumber(found[2])
  if not next or not chunks then
    return
  end
  local flight = next - (chunks - redis.call('HLEN', messages))
  while next > 0 and flight > 0 do
    next = next - 1
    local message = redis.call('HGET', messages, next)
    if message then
      redis.call('LREM', queue, 0, message)
      flight = flight - 1
    end
  end
end
